package stepagent;

import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import scienceworld.tasks.TaskMaker1;
import util.UniqueIdentifier;

/**
 * Makes the wanted task only.
 *
 * <p>At each load the simulator makes all variations of all tasks, in families, to use one of them. What the other
 * families leave behind is how many objects were numbered and how many random numbers drawn; both are the same at each
 * load, whatever the seed: they are counted at the first load, and counted off later.
 */
public final class Tasks {
    /** The simulator's random generator. */
    static final Generator RANDOM = new Generator();

    private record Family(long objects, int draws, List<String> tasks) {}

    private static final Map<String, Family> FAMILIES = new HashMap<>();
    private static String wanted;

    private Tasks() {}

    /** Say which task the next load is about; null makes all. */
    static void want(String task) {
        wanted = task;
    }

    /** Stands for each family's method of this name. The simulator's start makes all of them once, as ever. */
    public static void registerTasks(Object family, TaskMaker1 maker) {
        Family known = FAMILIES.get(family.getClass().getName());
        if (known != null && !known.tasks.contains(wanted)) {
            UniqueIdentifier.count_$eq(UniqueIdentifier.count() + known.objects);
            RANDOM.skip(known.draws);
            return;
        }
        long objects = UniqueIdentifier.count();
        int draws = RANDOM.draws();
        var others = new HashSet<>(List.of(maker.getTaskList()));
        try {
            family.getClass().getMethod("original$registerTasks", TaskMaker1.class).invoke(family, maker);
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
        if (known == null && wanted != null) {
            List<String> made = Arrays.stream(maker.getTaskList()).filter(task -> !others.contains(task)).toList();
            known = new Family(UniqueIdentifier.count() - objects, RANDOM.draws() - draws, made);
            FAMILIES.put(family.getClass().getName(), known);
        }
    }
}
