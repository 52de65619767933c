package stepagent;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import scala.Tuple3;
import scala.collection.Iterator;
import scala.collection.immutable.Map;
import scala.reflect.ClassTag;
import scala.reflect.ClassTag$;
import scienceworld.input.ActionDefinitions;
import scienceworld.input.InputParser;
import scienceworld.objects.agent.Agent;
import scienceworld.runtime.AgentInterface;
import scienceworld.runtime.pythonapi.PythonInterface;
import scienceworld.struct.EnvObject;

/**
 * One simulator, asked over standard input and answering over standard output.
 *
 * <p>A request is a number of texts (the question and its arguments), an answer a flag (0: an exception, whose text
 * follows) and a number of texts; numbers are four bytes, a text is its length and its UTF-8 bytes.
 */
public final class Host {
    private static final Set<String> ASKS = Set.of("help", "objects", "task");
    private static final String UNKNOWN =
            "Unknown action.  Type 'help' for a list of actions, and 'objects' for a list of possible object referents. ";
    private static final ClassTag<EnvObject> TAG = ClassTag$.MODULE$.apply(EnvObject.class);

    private final PythonInterface world = new PythonInterface();
    private EnvObject[] everything;
    private Map<Object, String> places;

    private Host() {}

    /** Serve until standard input ends, or the process that asks does: it may end while an action is carried out. */
    public static void main(String[] arguments) throws Exception {
        ProcessHandle.current().parent().ifPresent(
                owner -> owner.onExit().thenRun(() -> Runtime.getRuntime().halt(0)));
        var in = new DataInputStream(new BufferedInputStream(new FileInputStream(FileDescriptor.in), 1 << 16));
        var out = new DataOutputStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16));
        var nowhere = new PrintStream(OutputStream.nullOutputStream());
        System.setOut(nowhere);
        System.setErr(nowhere);
        useOwnGenerator();
        var host = new Host();
        send(out, 1, texts("ready"));
        while (true) {
            String[] request = read(in);
            try {
                send(out, 1, host.answer(request));
            } catch (Throwable error) {
                send(out, 0, texts(error));
            }
        }
    }

    private static String[] read(DataInputStream in) {
        try {
            var request = new String[in.readInt()];
            for (int i = 0; i < request.length; i++) {
                request[i] = new String(in.readNBytes(in.readInt()), StandardCharsets.UTF_8);
            }
            return request;
        } catch (IOException error) {
            Runtime.getRuntime().halt(0);
            throw new IllegalStateException(error);
        }
    }

    private static void send(DataOutputStream out, int good, String[] answer) throws IOException {
        out.writeInt(good);
        out.writeInt(answer.length);
        for (String text : answer) {
            byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
            out.writeInt(bytes.length);
            out.write(bytes);
        }
        out.flush();
    }

    private static void useOwnGenerator() throws ReflectiveOperationException {
        var field = scala.util.Random.class.getDeclaredField("self");
        field.setAccessible(true);
        field.set(scala.util.Random$.MODULE$, Tasks.RANDOM);
        Tasks.RANDOM.setSeed(0);
    }

    private AgentInterface agent() {
        return world.agentInterface().get();
    }

    private InputParser parser() {
        return agent().inputParser();
    }

    private String[] answer(String[] request) throws Exception {
        return switch (request[0]) {
            case "load" -> load(request[1], Integer.parseInt(request[2]), request[3], Boolean.parseBoolean(request[4]));
            case "step" -> step(request);
            case "look" -> texts(world.freeActionLook());
            case "inventory" -> texts(world.freeActionInventory());
            case "menu" -> texts(parser().getNumAmbiguousMatches());
            case "leave menu" -> leaveMenu();
            case "moves" -> texts(world.getNumMoves());
            case "state" -> texts(agent().universe().toJSON(), world.getGoalProgressStr(), Tasks.RANDOM.state());
            case "actions" -> aside(this::actions);
            case "names" -> aside(this::names);
            case "verbs" -> listed(world.getPossibleActions());
            case "raw actions" -> aside(() -> listed(world.getValidActionObjectCombinations()));
            case "gold" -> listed(world.getGoldActionSequence());
            default -> throw new IllegalArgumentException("unknown request " + request[0]);
        };
    }

    private static String[] texts(Object... values) {
        return Arrays.stream(values).map(String::valueOf).toArray(String[]::new);
    }

    private static String[] listed(List<String> texts) {
        return texts.toArray(String[]::new);
    }

    private String[] load(String task, int variation, String simplification, boolean gold) {
        Tasks.want(task);
        everything = null;
        world.load(task, variation, simplification, gold);
        // A load leaves the last episode's score and end in place, and "task" as the first action would tell them.
        world.score_$eq(0.0);
        world.isComplete_$eq(false);
        return texts(world.getTaskDescription());
    }

    /** Actions one after the other; the answer is about the last one. */
    private String[] step(String[] request) {
        String observation = "";
        for (int i = 1; i < request.length; i++) {
            observation = step(request[i]);
        }
        return texts(
                observation,
                world.getScore(),
                world.getCompleted(),
                agent().isInErrorState(),
                parser().getNumAmbiguousMatches());
    }

    /**
     * What the simulator does in an action, without what it does besides: look and inventory before it, a history of
     * all three, and the names of all things after it, which are printed.
     */
    private String step(String action) {
        if (ASKS.contains(action.trim().toLowerCase())) {
            return world.step(action);
        }
        Tuple3<String, Object, Object> told = agent().step(action);
        world.score_$eq((Double) told._2());
        world.isComplete_$eq((Boolean) told._3());
        return told._1().isEmpty() ? UNKNOWN : told._1();
    }

    private String[] leaveMenu() {
        parser().clearAmbiguousState();
        return texts();
    }

    /** Naming things draws random numbers: not from those that the world goes by. */
    private static String[] aside(Callable<String[]> work) throws Exception {
        long state = Tasks.RANDOM.state();
        Tasks.RANDOM.setSeed(0);
        try {
            return Names.still(work);
        } finally {
            Tasks.RANDOM.restore(state);
        }
    }

    /**
     * The valid actions whose objects the parser can reach: the simulator's own list, made of the same parts, without
     * what is inside closed things or behind drains. The names of all places are made once a load.
     */
    private String[] actions() {
        Agent body = agent().agent();
        EnvObject room = room();
        EnvObject[] here = array(InputParser.collectObjects(room, false));
        scala.collection.mutable.Set<EnvObject> reach = reach();
        EnvObject[] reached = Arrays.stream(here).filter(reach::contains).toArray(EnvObject[]::new);
        Map<Object, String> names = names(here, room);
        if (everything == null) {
            everything = array(InputParser.collectObjects(agent().universe(), true));
            places = names(everything, room);
        }
        var actions = ActionDefinitions.mkPossibleActions(body, reached, everything, names, places);
        return Arrays.stream(actions).map(Object::toString).toArray(String[]::new);
    }

    /** All names by which the parser knows what it can reach. */
    private String[] names() {
        EnvObject room = room();
        var names = new TreeSet<String>();
        for (EnvObject object : array(reach())) {
            Iterator<String> all = object.getReferentsWithContainers(room).iterator();
            while (all.hasNext()) {
                names.add(all.next());
            }
        }
        return names.toArray(String[]::new);
    }

    private EnvObject room() {
        return agent().agent().getContainer().get();
    }

    private scala.collection.mutable.Set<EnvObject> reach() {
        scala.collection.mutable.Set<EnvObject> reach = InputParser.collectAccessibleObjects(room(), true);
        reach.$plus$plus$eq(InputParser.collectAccessibleObjects(agent().agent().getInventoryContainer(), true));
        return reach;
    }

    private Map<Object, String> names(EnvObject[] objects, EnvObject room) {
        return parser().getAllUniqueReferentsLUTObjList(objects, room, true, true);
    }

    private static EnvObject[] array(scala.collection.mutable.Set<EnvObject> objects) {
        return (EnvObject[]) objects.toArray(TAG);
    }
}
