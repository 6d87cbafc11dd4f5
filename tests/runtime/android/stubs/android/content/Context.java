package android.content;

import android.content.res.AssetManager;
import java.io.File;

/** As much of Android's class as the runner calls, with its signatures of API 24. */
public abstract class Context {
    public abstract Context getApplicationContext();

    public abstract AssetManager getAssets();

    public abstract File getNoBackupFilesDir();
}
