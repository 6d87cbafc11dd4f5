package android.app;

import android.content.Context;
import android.os.Bundle;
import android.view.View;

/** As much of Android's class as the sample calls. */
public abstract class Activity extends Context {
    protected void onCreate(Bundle savedInstanceState) {}

    protected void onDestroy() {}

    public void setContentView(View view) {}

    public final void runOnUiThread(Runnable action) {}

    @Override
    public Context getApplicationContext() {
        return this;
    }

    @Override
    public android.content.res.AssetManager getAssets() {
        throw new UnsupportedOperationException();
    }

    @Override
    public java.io.File getNoBackupFilesDir() {
        throw new UnsupportedOperationException();
    }
}
