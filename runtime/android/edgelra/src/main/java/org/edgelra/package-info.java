/**
 * Runs edge-lra bundles with onnxruntime on Android.
 *
 * <p>Begin at {@link org.edgelra.EdgeRunner}, or with a bundle in the app's assets at {@link
 * org.edgelra.EdgeAssets}, the one class that needs Android: all others run on any JVM.
 */
package org.edgelra;
