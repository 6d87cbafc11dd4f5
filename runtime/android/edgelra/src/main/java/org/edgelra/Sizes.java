package org.edgelra;

/** Products of sizes that must not overflow. */
final class Sizes {
    private Sizes() {}

    /** Returns the product; -1 where it overflows or a size is negative. */
    static long product(long... sizes) {
        long product = 1;
        boolean empty = false;
        for (long size : sizes) {
            if (size < 0) {
                return -1;
            }
            empty |= size == 0;
        }
        if (empty) {
            return 0;
        }
        for (long size : sizes) {
            product = multiply(product, size);
            if (product < 0) {
                return -1;
            }
        }
        return product;
    }

    /** Multiplies two sizes; -1 where that overflows. */
    static long multiply(long left, long right) {
        return right != 0 && left > Long.MAX_VALUE / right ? -1 : left * right;
    }
}
