package stepagent;

import java.lang.invoke.MethodHandle;
import scala.collection.AbstractTraversable;
import scala.collection.immutable.HashSet;
import scala.collection.immutable.ListSet;
import scala.collection.immutable.Set;
import scala.collection.mutable.FlatHashTable;
import scala.runtime.BoxesRunTime;
import scienceworld.struct.EnvObject;

/**
 * Quicker bodies for methods of hash sets that {@link Agent} redirects here; each does what the one it stands for does.
 *
 * <p>With the constant identity hash that makes equal runs equal, all objects of the world fall into one bucket of
 * every set and each look-up compares with all of them. The order in which sets are walked has to stay, so the tables
 * stay as they are; an index beside a table (in its field {@code sizemap}, which only parallel collections use) tells
 * which objects are in it.
 */
public final class Sets {
    private static final int SMALL = 8;
    private static final int HASH = new Object().hashCode();
    private static final MethodHandle TO_SET = Agent.original(AbstractTraversable.class, "toSet");
    private static final boolean CONSTANT = HASH == new Object().hashCode() && HASH == new Object().hashCode();

    private Sets() {}

    private static boolean plain(Object entry) {
        return CONSTANT && entry instanceof EnvObject && entry.hashCode() == HASH;
    }

    private static int slot(EnvObject object, int[] index) {
        return (int) object.uuid() * 0x9E3779B9 >>> Integer.numberOfLeadingZeros(index.length - 1);
    }

    /** The place in the table of an equal object, or -1. */
    private static int lookUp(EnvObject object, Object[] table, int[] index) {
        for (int slot = slot(object, index); index[slot] != 0; slot = slot + 1 & index.length - 1) {
            int place = index[slot] - 1;
            if (object.uuid() == ((EnvObject) table[place]).uuid()) {
                return place;
            }
        }
        return -1;
    }

    private static void note(EnvObject object, int place, int[] index) {
        int slot = slot(object, index);
        while (index[slot] != 0) {
            slot = slot + 1 & index.length - 1;
        }
        index[slot] = place + 1;
    }

    /** The table's index; null where it is small or holds anything but objects of the world. */
    private static int[] index(FlatHashTable<?> set) {
        int[] index = set.sizemap();
        if (index == null && set.tableSize() > SMALL) {
            Object[] table = set.table();
            int start = set.index(HASH);
            if (!plain(table[start])) {
                return null;
            }
            index = new int[table.length * 2];
            for (int i = 0; i < set.tableSize(); i++) {
                int place = start + i & table.length - 1;
                if (!plain(table[place])) {
                    return null;
                }
                note((EnvObject) table[place], place, index);
            }
            set.sizemap_$eq(index);
        }
        return index;
    }

    public static boolean addEntry(FlatHashTable<?> set, Object entry) {
        Object[] table = set.table();
        int place;
        int[] index = plain(entry) ? index(set) : null;
        if (index != null) {
            EnvObject object = (EnvObject) entry;
            if (lookUp(object, table, index) >= 0) {
                return false;
            }
            place = set.index(HASH) + set.tableSize() & table.length - 1;
            note(object, place, index);
        } else {
            place = find(set, table, entry);
            if (table[place] != null) {
                return false;
            }
            set.sizemap_$eq(null);
        }
        table[place] = entry;
        set.tableSize_$eq(set.tableSize() + 1);
        if (set.tableSize() >= set.threshold()) {
            grow(set);
        }
        return true;
    }

    /** Where the entry is in the table, or where it would come. */
    private static int find(FlatHashTable<?> set, Object[] table, Object entry) {
        int place = set.index(entry.hashCode());
        while (table[place] != null && table[place] != entry && !BoxesRunTime.equals(table[place], entry)) {
            place = place + 1 & table.length - 1;
        }
        return place;
    }

    private static void grow(FlatHashTable<?> set) {
        Object[] old = set.table();
        Object[] table = new Object[2 * old.length];
        set.table_$eq(table);
        set.seedvalue_$eq(set.tableSizeSeed());
        set.threshold_$eq((int) ((long) table.length * set._loadFactor() / 1000));
        set.sizemap_$eq(null);
        for (Object entry : old) {
            if (entry != null) {
                int place = set.index(entry.hashCode());
                while (table[place] != null) {
                    place = place + 1 & table.length - 1;
                }
                table[place] = entry;
            }
        }
    }

    public static Object findElemImpl(FlatHashTable<?> set, Object element) {
        Object[] table = set.table();
        Object entry = elemToEntry(set, element);
        int[] index = plain(entry) ? index(set) : null;
        if (index == null) {
            return table[find(set, table, entry)];
        }
        int place = lookUp((EnvObject) entry, table, index);
        return place < 0 ? null : table[place];
    }

    @SuppressWarnings("unchecked")
    private static Object elemToEntry(FlatHashTable<?> set, Object element) {
        return ((FlatHashTable<Object>) set).elemToEntry(element);
    }

    public static boolean removeElem(FlatHashTable<?> set, Object element) {
        Object[] table = set.table();
        int mask = table.length - 1;
        int hole = find(set, table, elemToEntry(set, element));
        if (table[hole] == null) {
            return false;
        }
        set.sizemap_$eq(null);
        for (int next = hole + 1 & mask; table[next] != null; next = next + 1 & mask) {
            int home = set.index(table[next].hashCode());
            // Move it down unless its home lies behind the hole (distances go round the table).
            if (home != next && (next - home & mask) >= (next - hole & mask)) {
                table[hole] = table[next];
                hole = next;
            }
        }
        table[hole] = null;
        set.tableSize_$eq(set.tableSize() - 1);
        return true;
    }

    public static void nnSizeMapReset(FlatHashTable<?> set, int length) {
        set.sizemap_$eq(null);
    }

    /** A hash set's objects are distinct: none has to be looked for among those before it. */
    @SuppressWarnings({"unchecked", "rawtypes"})
    public static Set<?> toSet(AbstractTraversable from) throws Throwable {
        if (from instanceof scala.collection.mutable.HashSet<?> set && set.tableSize() > SMALL && index(set) != null) {
            int start = set.index(HASH);
            Object[] table = set.table();
            int wrapped = Math.max(0, start + set.tableSize() - table.length);
            HashSet made = new HashSet();
            made = made.$plus(object(table, start, wrapped, 0)).$plus(object(table, start, wrapped, 1));
            if (made instanceof HashSet.HashSetCollision1<?> pair) {
                ListSet list = pair.ks();
                for (int i = 2; i < set.tableSize(); i++) {
                    list = list.new Node(object(table, start, wrapped, i));
                }
                return new HashSet.HashSetCollision1(pair.hash(), list);
            }
        }
        return (Set) TO_SET.invokeExact(from);
    }

    /** The i-th object in the order in which the set is walked: those that went round the table's end come first. */
    private static Object object(Object[] table, int start, int wrapped, int i) {
        return table[i < wrapped ? i : start + i - wrapped];
    }
}
