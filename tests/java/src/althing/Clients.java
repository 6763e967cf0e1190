package althing;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

/**
 * Runs every test against the servers of a connect string (its addresses separated by commas), prints
 * "ok NAME" or "FAILED NAME: why" for each, and at the end "N passed, N failed".
 */
public final class Clients {
    interface Test {
        void run(Servers servers) throws Exception;
    }

    private static final long LIMIT_SECONDS = 60;

    public static void main(String[] arguments) throws Exception {
        Map<String, Test> tests = new LinkedHashMap<>();
        OfficialClient.tests(tests);
        CuratorRecipes.tests(tests);
        Servers servers = new Servers(arguments[0]);
        int failed = 0;
        ExecutorService threads = Executors.newCachedThreadPool(runnable -> {
            Thread thread = new Thread(runnable);
            thread.setDaemon(true);
            return thread;
        });
        for (Map.Entry<String, Test> test : tests.entrySet()) {
            Future<?> run = threads.submit(() -> {
                test.getValue().run(servers);
                return null;
            });
            try {
                run.get(LIMIT_SECONDS, TimeUnit.SECONDS);
                System.out.println("ok " + test.getKey());
            } catch (Exception e) {
                failed++;
                Throwable why = e.getCause() == null ? e : e.getCause();
                System.out.println("FAILED " + test.getKey() + ": " + why);
                why.printStackTrace();
                run.cancel(true);
            }
        }
        System.out.println((tests.size() - failed) + " passed, " + failed + " failed");
        System.exit(failed == 0 ? 0 : 1);
    }

    private Clients() {}
}
