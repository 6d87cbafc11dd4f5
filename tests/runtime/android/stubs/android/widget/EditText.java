package android.widget;

import android.content.Context;
import android.text.Editable;

/** As much of Android's class as the sample calls. */
public class EditText extends TextView {
    public EditText(Context context) {
        super(context);
    }

    @Override
    public Editable getText() {
        throw new UnsupportedOperationException();
    }
}
