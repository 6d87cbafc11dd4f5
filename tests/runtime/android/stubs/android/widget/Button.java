package android.widget;

import android.content.Context;

/** Android's class. */
public class Button extends TextView {
    public Button(Context context) {
        super(context);
    }
}
