package stepagent;

import java.util.Random;

/** {@link Random}, by the formula of its documentation, with a state that can be read, set and counted. */
public final class Generator extends Random {
    private static final long serialVersionUID = 1;

    private long state;
    private int draws;

    public long state() {
        return state;
    }

    public void restore(long state) {
        this.state = state;
    }

    /** Numbers drawn since the start. */
    public int draws() {
        return draws;
    }

    public void skip(int draws) {
        for (int i = 0; i < draws; i++) {
            next(1);
        }
    }

    @Override
    public void setSeed(long seed) {
        state = (seed ^ 0x5DEECE66DL) & (1L << 48) - 1;
    }

    @Override
    protected int next(int bits) {
        draws++;
        state = state * 0x5DEECE66DL + 0xBL & (1L << 48) - 1;
        return (int) (state >>> 48 - bits);
    }
}
