package android.view;

import android.content.Context;

/** As much of Android's class as the sample calls. */
public class View {
    /** Android's interface. */
    public interface OnClickListener {
        void onClick(View view);
    }

    public View(Context context) {}

    public boolean isEnabled() {
        return true;
    }

    public void setEnabled(boolean enabled) {}

    public void setOnClickListener(OnClickListener listener) {}
}
