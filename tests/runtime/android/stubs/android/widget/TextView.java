package android.widget;

import android.content.Context;
import android.view.View;

/** As much of Android's class as the sample calls. */
public class TextView extends View {
    public TextView(Context context) {
        super(context);
    }

    public CharSequence getText() {
        return "";
    }

    public final void setText(CharSequence text) {}

    public CharSequence getHint() {
        return "";
    }

    public final void setHint(CharSequence hint) {}
}
