package stepagent;

import java.lang.classfile.ClassBuilder;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassTransform;
import java.lang.classfile.MethodModel;
import java.lang.classfile.TypeKind;
import java.lang.constant.ClassDesc;
import java.lang.constant.MethodTypeDesc;
import java.lang.instrument.ClassFileTransformer;
import java.lang.instrument.Instrumentation;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.AccessFlag;
import java.lang.reflect.Method;
import java.security.ProtectionDomain;
import java.util.Map;
import java.util.Set;

/**
 * Redirects methods of the simulator and its library to static ones of ours, as their classes are loaded.
 *
 * <p>A redirected method stays under the name {@code original$<name>}.
 */
public final class Agent implements ClassFileTransformer {
    private record Redirection(String target, Set<String> methods) {}

    private static final Map<String, Redirection> REDIRECTIONS = Map.of(
            "scala/collection/mutable/FlatHashTable",
            new Redirection("Sets", Set.of("addEntry", "findElemImpl", "removeElem", "nnSizeMapReset")),
            "scala/collection/AbstractTraversable",
            new Redirection("Sets", Set.of("toSet")),
            "scienceworld/input/InputParser$",
            new Redirection("Names", Set.of("tokenize", "getObjectReferents")),
            "scienceworld/input/InputParser",
            new Redirection("Names", Set.of("parse")));
    private static final String TASKS = "scienceworld/tasks/specifictasks/";
    private static final Redirection TASK = new Redirection("Tasks", Set.of("registerTasks"));

    /** Called by the JVM before main. */
    public static void premain(String arguments, Instrumentation instrumentation) {
        instrumentation.addTransformer(new Agent());
    }

    @Override
    public byte[] transform(
            ClassLoader loader, String name, Class<?> redefined, ProtectionDomain domain, byte[] bytes) {
        if (name == null) {
            return null;
        }
        boolean task = name.startsWith(TASKS) && name.endsWith("$");
        Redirection redirection = task ? TASK : REDIRECTIONS.get(name);
        if (redirection == null) {
            return null;
        }
        ClassDesc self = task ? ClassDesc.of("java.lang.Object") : ClassDesc.ofInternalName(name);
        ClassDesc target = ClassDesc.of("stepagent", redirection.target);
        var file = ClassFile.of();
        return file.transformClass(file.parse(bytes), (ClassTransform) (builder, element) -> {
            if (element instanceof MethodModel method && redirection.methods.contains(method.methodName().stringValue())
                    && !method.flags().has(AccessFlag.STATIC) && !method.flags().has(AccessFlag.BRIDGE)) {
                redirect(builder, method, target, self);
            } else {
                builder.with(element);
            }
        });
    }

    /** The redirected method of a class as it was. */
    static MethodHandle original(Class<?> owner, String name) {
        for (Method method : owner.getMethods()) {
            if (method.getName().equals("original$" + name)) {
                try {
                    return MethodHandles.lookup().unreflect(method);
                } catch (IllegalAccessException error) {
                    throw new IllegalStateException(error);
                }
            }
        }
        throw new IllegalStateException("no " + name + " in " + owner);
    }

    private static void redirect(ClassBuilder builder, MethodModel method, ClassDesc target, ClassDesc self) {
        String name = method.methodName().stringValue();
        MethodTypeDesc type = method.methodTypeSymbol();
        int flags = method.flags().flagsMask();
        int open = flags & ~ClassFile.ACC_PRIVATE | ClassFile.ACC_PUBLIC;
        builder.withMethod("original$" + name, type, open, copy -> method.forEach(copy::with));
        builder.withMethod(name, type, flags, made -> made.withCode(code -> {
            code.aload(0);
            for (int i = 0; i < type.parameterCount(); i++) {
                code.loadLocal(TypeKind.from(type.parameterType(i)), code.parameterSlot(i));
            }
            code.invokestatic(target, name, type.insertParameterTypes(0, self));
            code.return_(TypeKind.from(type.returnType()));
        }));
    }
}
