package android.text;

/** As much of Android's interface as the sample calls. */
public interface Editable extends CharSequence {}
