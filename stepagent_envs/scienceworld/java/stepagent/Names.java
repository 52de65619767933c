package stepagent;

import java.lang.invoke.MethodHandle;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.regex.Pattern;
import scala.Tuple4;
import scala.collection.Iterator;
import scala.collection.immutable.Set;
import scienceworld.input.InputParser;
import scienceworld.input.InputParser$;
import scienceworld.objects.agent.Agent;
import scienceworld.struct.EnvObject;
import scienceworld.tasks.goals.GoalSequence;
import scienceworld.tasks.goals.ObjMonitor;

/** Remembers the names of things: the parser asks for them again and again until an action is carried out. */
public final class Names {
    private static final MethodHandle PARSE = stepagent.Agent.original(InputParser.class, "parse");
    private static final MethodHandle REFERENTS = stepagent.Agent.original(InputParser$.class, "getObjectReferents");
    private static final int MANY = 20_000;
    private static final Pattern BLANKS = Pattern.compile("\\s+");
    private static final Map<String, String[]> WORDS = new HashMap<>();
    private static final Map<Long, Map<Long, String[]>> KNOWN = new HashMap<>();
    private static boolean still;

    private Names() {}

    /** Do something in which nothing of the world changes. */
    static <T> T still(Callable<T> work) throws Exception {
        still = true;
        try {
            return work.call();
        } finally {
            still = false;
            KNOWN.clear();
        }
    }

    @SuppressWarnings("rawtypes")
    public static Tuple4 parse(
            InputParser parser, String text, EnvObject inventory, EnvObject room, Agent agent, ObjMonitor monitor,
            GoalSequence goals, EnvObject perspective) throws Throwable {
        still = true;
        try {
            return (Tuple4) PARSE.invokeExact(parser, text, inventory, room, agent, monitor, goals, perspective);
        } finally {
            still = false;
            KNOWN.clear();
        }
    }

    public static String[] getObjectReferents(InputParser$ parser, EnvObject object, EnvObject perspective)
            throws Throwable {
        if (!still) {
            return (String[]) REFERENTS.invokeExact(parser, object, perspective);
        }
        Map<Long, String[]> known = KNOWN.computeIfAbsent(perspective.uuid(), key -> new HashMap<>());
        String[] names = known.get(object.uuid());
        if (names == null) {
            names = plain(object.getReferentsWithContainers(perspective));
            if (names == null) {
                names = (String[]) REFERENTS.invokeExact(parser, object, perspective);
            }
            known.put(object.uuid(), names);
        }
        return names;
    }

    /** The names as they are, in their order; null where one would have to be changed. */
    private static String[] plain(Set<String> names) {
        var made = new String[names.size()];
        Iterator<String> all = names.iterator();
        for (int i = 0; i < made.length; i++) {
            made[i] = all.next();
            if (!plain(made[i])) {
                return null;
            }
        }
        return made;
    }

    /** It has no capitals, no surplus blanks and no articles. */
    private static boolean plain(String name) {
        for (int i = 0; i < name.length(); i++) {
            char letter = name.charAt(i);
            if (letter < ' ' || letter > '~' || letter >= 'A' && letter <= 'Z') {
                return false;
            }
        }
        String text = " " + name + " ";
        return !(text.contains("  ") || text.contains(" a ") || text.contains(" an ") || text.contains(" the "));
    }

    public static String[] tokenize(InputParser$ parser, String text) {
        if (WORDS.size() >= MANY) {
            WORDS.clear();
        }
        return WORDS.computeIfAbsent(text, key -> {
            String[] words = BLANKS.matcher(key.trim()).replaceAll(" ").split(" ");
            List<String> stops = List.of(parser.stopWords());
            return Arrays.stream(words).filter(word -> !stops.contains(word)).toArray(String[]::new);
        });
    }
}
