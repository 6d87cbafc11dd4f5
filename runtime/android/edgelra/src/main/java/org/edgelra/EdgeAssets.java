package org.edgelra;

import android.content.Context;
import android.content.res.AssetManager;
import java.io.File;
import java.util.concurrent.CompletableFuture;
import org.jetbrains.annotations.NotNull;

/** Bundles in an app's assets. */
public final class EdgeAssets {
    private static final String FOLDER = "edge-lra";

    private EdgeAssets() {}

    /**
     * Copies a bundle from the assets to the app's files, unless it is there, and opens it.
     *
     * <p>Not for the main thread: the first call copies and hashes the whole bundle.
     *
     * @param context the app's.
     * @param asset the bundle's path in the assets, such as {@code sentiment.edge}.
     * @param options as for {@link EdgeRunner#load(File, RunnerOptions)}; stamps go to the app's
     *     files, which no other app can write.
     * @throws EdgeException as {@link #install} and {@link EdgeRunner#load(File, RunnerOptions)}.
     */
    @NotNull
    public static EdgeRunner load(
            @NotNull Context context, @NotNull String asset, @NotNull RunnerOptions options) {
        File bundle = install(context, asset);
        File stamps = new File(context.getNoBackupFilesDir(), FOLDER + "/checked");
        return EdgeRunner.load(bundle, options.withStampFolder(stamps));
    }

    /** Does the same on the options' executor, or on a thread of its own. */
    @NotNull
    public static CompletableFuture<EdgeRunner> loadAsync(
            @NotNull Context context, @NotNull String asset, @NotNull RunnerOptions options) {
        Context app = context.getApplicationContext(); // an activity must not be kept alive
        return Background.once(options.executor, () -> load(app, asset, options));
    }

    /**
     * Copies a bundle from the assets to the app's files, unless it is there.
     *
     * <p>It goes where backups leave it out: it comes with the app. An update of the app that
     * brings other bytes replaces it.
     *
     * @return the bundle's folder.
     * @throws EdgeException as {@link BundleInstaller#install}.
     */
    @NotNull
    public static File install(@NotNull Context context, @NotNull String asset) {
        BundlePaths.checkArgument("asset", asset);
        AssetManager assets = context.getAssets();
        File target = new File(new File(context.getNoBackupFilesDir(), FOLDER), asset);
        return BundleInstaller.install(
                name -> assets.open(asset + "/" + name, AssetManager.ACCESS_STREAMING), target);
    }
}
