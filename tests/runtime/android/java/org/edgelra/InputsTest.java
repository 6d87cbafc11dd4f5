package org.edgelra;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;

class InputsTest {
    private final Manifest manifest = Samples.manifest(Samples.entries());

    private static Map<String, Tensor> ids(Tensor tensor) {
        Map<String, Tensor> inputs = new HashMap<>();
        inputs.put("input_ids", tensor);
        return inputs;
    }

    private void refused(Map<String, Tensor> inputs, String... parts) {
        Expect.invalid(() -> Inputs.check(inputs, manifest), parts);
    }

    @Test
    void missingTypesAreZeros() {
        Map<String, Tensor> found =
                Inputs.check(ids(Tensor.ofRows(new long[] {1, 2, 3})), manifest);
        assertArrayEquals(new long[3], found.get("token_type_ids").toLongs());
    }

    @Test
    void integersOfAnyWidthServeAsIds() {
        Tensor narrow = Tensor.ofInts(new int[] {7, 99}, 1, 2);
        Tensor found = Inputs.check(ids(narrow), manifest).get("input_ids");
        assertEquals("int64[1, 2]", found.toString());
        assertArrayEquals(new long[] {7, 99}, found.toLongs());
    }

    @Test
    void eachMistakeIsTold() {
        refused(new HashMap<>(), "inputs: found no \"input_ids\", expected input_ids, token_type_ids");
        Map<String, Tensor> unknown = ids(Tensor.ofRows(new long[] {1}));
        unknown.put("ids", Tensor.ofRows(new long[] {1}));
        refused(unknown, "inputs: found \"ids\", expected input_ids, token_type_ids");
        refused(ids(Tensor.ofFloats(new float[] {1}, 1, 1)), "found float32, expected int64");
        refused(ids(Tensor.ofLongs(new long[] {1}, 1)), "found 1 axes [1], expected [batch, seq");
        refused(ids(Tensor.ofLongs(new long[0], 1, 0)), "sequence=at least 1");
        refused(ids(Tensor.ofRows(new long[] {-1})), "found -1, expected ids of 0 to 99");
        refused(ids(Tensor.ofRows(new long[] {100})), "found 100, expected ids of 0 to 99");
        refused(ids(Tensor.ofRows(new long[9])), "found 9 tokens, expected at most 8");
        Map<String, Tensor> apart = ids(Tensor.ofRows(new long[] {1, 2}));
        apart.put("token_type_ids", Tensor.ofRows(new long[] {0}));
        refused(apart, "token_type_ids: found shape [1, 1], expected sequence=2");
    }

    @Test
    void tensorsRefuseSizesThatAreNotTheirs() {
        Expect.invalid(() -> Tensor.ofLongs(new long[3], 2, 2), "found 3 values");
        Expect.invalid(() -> Tensor.ofLongs(new long[0], -1, 0), "expected sizes of 0 or more");
        Expect.invalid(() -> Tensor.zeros(DType.INT64, 1L << 40, 1L << 40), "fits into memory");
        Expect.invalid(() -> Tensor.zeros(DType.INT64, 1L << 30), "expected at most");
        Expect.invalid(() -> Tensor.ofRows(new long[1], new long[2]), "found 2 ids in row 1");
        Expect.invalid(() -> Tensor.ofInts(new int[1], 1).toFloats(), "found int32, expected float32");
        Expect.invalid(() -> Tensor.ofFloats(new float[1], 1).toLongs(), "expected integers");
    }

    @Test
    void aTensorKeepsItsShape() {
        long[] shape = {1, 2};
        Tensor tensor = Tensor.ofLongs(new long[] {5, 6}, shape);
        shape[0] = 9;
        tensor.getShape()[0] = 9;
        assertArrayEquals(new long[] {1, 2}, tensor.getShape());
        assertEquals(6, tensor.getData().getLong(8));
    }
}
