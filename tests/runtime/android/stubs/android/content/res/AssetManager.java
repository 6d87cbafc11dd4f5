package android.content.res;

import java.io.IOException;
import java.io.InputStream;

/** As much of Android's class as the runner calls, with its signatures of API 24. */
public abstract class AssetManager {
    public static final int ACCESS_STREAMING = 2;

    public abstract InputStream open(String fileName, int accessMode) throws IOException;
}
