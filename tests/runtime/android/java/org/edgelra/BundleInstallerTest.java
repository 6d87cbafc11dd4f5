package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import android.content.Context;
import android.content.res.AssetManager;
import java.io.ByteArrayInputStream;
import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BundleInstallerTest {
    @TempDir File folder;
    private final Map<String, byte[]> files = new HashMap<>();
    private final List<String> opened = new ArrayList<>();
    private final BundleInstaller.Source source = this::open;

    private InputStream open(String name) throws IOException {
        opened.add(name);
        if (!files.containsKey(name)) {
            throw new FileNotFoundException(name);
        }
        return new ByteArrayInputStream(files.get(name));
    }

    /** Makes the source a bundle of one file. */
    private void bundle(String content) {
        byte[] data = content.getBytes(StandardCharsets.UTF_8);
        files.put("sub/model.bin", data);
        Map<String, String> entries = Samples.entries();
        entries.put(
                "files",
                "{\"sub/model.bin\": {\"size\": " + data.length + ", \"sha256\": \""
                        + Hashes.of(content) + "\"}}");
        files.put("manifest.json", Samples.sealed(entries).array());
    }

    private File target() {
        return new File(folder, "deep/x.edge");
    }

    private String installed() throws IOException {
        return Hashes.of(new File(target(), "sub/model.bin"));
    }

    @Test
    void filesAreCopiedOnce() throws IOException {
        bundle("weights");
        assertEquals(target(), BundleInstaller.install(source, target()));
        assertEquals(Hashes.of("weights"), installed());
        opened.clear();
        BundleInstaller.install(source, target());
        assertEquals("[manifest.json]", opened.toString());
    }

    @Test
    void anotherBundleTakesThePlace() throws IOException {
        bundle("weights");
        BundleInstaller.install(source, target());
        bundle("heavier");
        BundleInstaller.install(source, target());
        assertEquals(Hashes.of("heavier"), installed());
        assertArrayEquals(
                new String[] {".x.edge.lock", "x.edge"}, sorted(target().getParentFile().list()));
    }

    private static String[] sorted(String[] names) {
        java.util.Arrays.sort(names);
        return names;
    }

    @Test
    void aCutFileIsCopiedAgain() throws IOException {
        bundle("weights");
        BundleInstaller.install(source, target());
        assertTrue(new File(target(), "sub/model.bin").delete());
        BundleInstaller.install(source, target());
        assertEquals(Hashes.of("weights"), installed());
    }

    @Test
    void otherBytesAreRefusedAndTheOldBundleStays() throws IOException {
        bundle("weights");
        BundleInstaller.install(source, target());
        bundle("heavier");
        for (String wrong : new String[] {"heavies", "heavier still", "heavy"}) {
            files.put("sub/model.bin", wrong.getBytes(StandardCharsets.UTF_8));
            Expect.damaged(() -> BundleInstaller.install(source, target()), "sub/model.bin");
            assertEquals(Hashes.of("weights"), installed());
        }
    }

    @Test
    void whatIsMissingIsTold() {
        Expect.mistake(
                EdgeException.Code.NOT_FOUND,
                () -> BundleInstaller.install(source, target()),
                "expected a bundle");
        bundle("weights");
        files.remove("sub/model.bin");
        Expect.mistake(
                EdgeException.Code.RUNTIME,
                () -> BundleInstaller.install(source, target()),
                "cannot be written");
        assertFalse(target().exists());
    }

    @Test
    void assetsGoWhereBackupsLeaveThemOut() throws IOException {
        bundle("weights");
        Context context = new AppContext();
        File found = EdgeAssets.install(context, "models/x.edge");
        assertEquals(new File(folder, "edge-lra/models/x.edge"), found);
        assertEquals("[manifest.json, sub/model.bin]", opened.toString());
        Expect.invalid(() -> EdgeAssets.install(context, "../x.edge"), "expected a relative path");
    }

    private final class AppContext extends Context {
        @Override
        public Context getApplicationContext() {
            return this;
        }

        @Override
        public AssetManager getAssets() {
            return new AssetManager() {
                @Override
                public InputStream open(String name, int mode) throws IOException {
                    assertEquals(ACCESS_STREAMING, mode);
                    assertTrue(name.startsWith("models/x.edge/"), name);
                    return BundleInstallerTest.this.open(name.substring("models/x.edge/".length()));
                }
            };
        }

        @Override
        public File getNoBackupFilesDir() {
            return folder;
        }
    }
}
