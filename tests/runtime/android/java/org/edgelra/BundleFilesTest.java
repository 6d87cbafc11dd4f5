package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BundleFilesTest {
    @TempDir File folder;
    @TempDir File stamps;
    private Manifest manifest;

    @BeforeEach
    void write() throws IOException {
        write("content");
        Map<String, String> entries = Samples.entries();
        entries.put(
                "files",
                "{\"model.bin\": {\"size\": 7, \"sha256\": \"" + Hashes.of("content") + "\"}}");
        manifest = Samples.manifest(entries);
    }

    private void write(String content) throws IOException {
        File file = new File(folder, "model.bin");
        Files.write(file.toPath(), content.getBytes(StandardCharsets.UTF_8));
        assertTrue(file.setLastModified(1_000_000_000_000L));
    }

    private void check(RunnerOptions.Verify verify) {
        new BundleFiles(folder, manifest, stamps).check(verify);
    }

    @Test
    void onceRemembersAndAlwaysDoesNot() throws IOException {
        check(RunnerOptions.Verify.ONCE);
        assertEquals(1, stamps.list().length);
        write("CONTENT"); // of the same size and time
        check(RunnerOptions.Verify.ONCE);
        Expect.damaged(() -> check(RunnerOptions.Verify.ALWAYS), "model.bin: is damaged");
        check(RunnerOptions.Verify.NEVER);
    }

    @Test
    void anotherTimeIsCheckedAgain() throws IOException {
        check(RunnerOptions.Verify.ONCE);
        write("CONTENT");
        assertTrue(new File(folder, "model.bin").setLastModified(1_000_000_002_000L));
        Expect.damaged(() -> check(RunnerOptions.Verify.ONCE), "is damaged");
    }

    @Test
    void sizesAreAlwaysCompared() throws IOException {
        check(RunnerOptions.Verify.ONCE);
        write("cut");
        Expect.damaged(() -> check(RunnerOptions.Verify.ONCE), "expected 7 bytes");
        assertTrue(new File(folder, "model.bin").delete());
        Expect.mistake(EdgeException.Code.NOT_FOUND, () -> check(RunnerOptions.Verify.ONCE));
        check(RunnerOptions.Verify.NEVER);
    }

    @Test
    void stampsThatCannotBeWrittenCostNothing() {
        File file = new File(folder, "model.bin"); // no folder
        new BundleFiles(folder, manifest, file).check(RunnerOptions.Verify.ONCE);
    }

    @Test
    void aLinkOutOfTheBundleIsRefused(@TempDir File outside) throws IOException {
        File secret = new File(outside, "secret");
        Files.write(secret.toPath(), "content".getBytes(StandardCharsets.UTF_8));
        File file = new File(folder, "model.bin");
        assertTrue(file.delete());
        Files.createSymbolicLink(file.toPath(), secret.toPath());
        Expect.damaged(() -> check(RunnerOptions.Verify.ONCE), "found a link out of the bundle");
    }
}
