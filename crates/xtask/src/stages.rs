//! `test`: stages in their order, each with a budget (told when exceeded) and a limit (ended when exceeded).
//!
//! Those that build and compute come first, one by one. The others mostly wait for servers and clients: they
//! run two at a time.

use crate::process::{self, Outcome};
use crate::results::{self, Results, Tests, Verdict};
use crate::{mission, root, target, verify};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Held by who builds or installs what several stages need.
static SETTING_UP: Mutex<()> = Mutex::new(());

struct Stage {
    name: &'static str,
    /// Seconds that it should take on two cores with everything built.
    budget_s: u64,
    /// Whether another may run beside it.
    waits: bool,
    run: fn(&Plan) -> Result<Tests, String>,
}

/// What a run was asked for.
struct Plan {
    /// Long versions.
    all: bool,
}

impl Plan {
    /// Seconds after which a stage counts as hung.
    fn limit(&self, short_s: u64, long_s: u64) -> Duration {
        Duration::from_secs(if self.all { long_s } else { short_s })
    }
}

const STAGES: &[Stage] = &[
    Stage {
        name: "verify",
        budget_s: 120,
        waits: false,
        run: verify_stage,
    },
    Stage {
        name: "unit",
        budget_s: 180,
        waits: false,
        run: unit,
    },
    Stage {
        name: "lab",
        budget_s: 180,
        waits: false,
        run: lab_cluster_seeds,
    },
    Stage {
        name: "clients-python",
        budget_s: 180,
        waits: true,
        run: clients_python,
    },
    Stage {
        name: "clients-redis",
        budget_s: 240,
        waits: true,
        run: clients_redis,
    },
    Stage {
        name: "clients-locks",
        budget_s: 120,
        waits: true,
        run: clients_locks,
    },
    Stage {
        name: "clients-kafka",
        budget_s: 180,
        waits: true,
        run: clients_kafka,
    },
    Stage {
        name: "gateway",
        budget_s: 120,
        waits: true,
        run: gateway,
    },
    Stage {
        name: "rpc",
        budget_s: 90,
        waits: true,
        run: rpc,
    },
    Stage {
        name: "computing",
        budget_s: 90,
        waits: true,
        run: computing,
    },
    Stage {
        name: "clients-files",
        budget_s: 180,
        waits: true,
        run: clients_files,
    },
    Stage {
        name: "clients-global",
        budget_s: 120,
        waits: true,
        run: clients_global,
    },
    Stage {
        name: "clients-java",
        budget_s: 120,
        waits: true,
        run: clients_java,
    },
    Stage {
        name: "faults",
        budget_s: 300,
        waits: true,
        run: faults,
    },
];

/// Runs the stages named (all when none is) and prints a table of times and the sum of results.
pub fn run(names: &[String], all: bool) -> Result<bool, String> {
    if let Some(unknown) = names
        .iter()
        .find(|name| STAGES.iter().all(|stage| stage.name != **name))
    {
        let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        return Err(format!(
            "no stage {unknown:?}; there are {}",
            known.join(", ")
        ));
    }
    let plan = Plan { all };
    let mut results = Results::load();
    let wanted = STAGES
        .iter()
        .filter(|stage| names.is_empty() || names.iter().any(|n| n == stage.name));
    let (mut waiting, computing): (Vec<&Stage>, Vec<&Stage>) =
        wanted.partition(|stage| stage.waits);
    // The longest first, so that the last ones end together.
    waiting.sort_by_key(|stage| stage.budget_s);
    let mut table: Vec<Done> = computing.into_iter().map(|s| carry_out(s, &plan)).collect();
    let (waiting, done) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Not in the loop's head: the lock would be held for as long as the stage runs.
                let next = || lock(&waiting).pop();
                while let Some(stage) = next() {
                    process::LABEL.set(stage.name);
                    let ended = carry_out(stage, &plan);
                    lock(&done).push(ended);
                }
            });
        }
    });
    table.append(&mut lock(&done));
    table.sort_by_key(|done| {
        STAGES
            .iter()
            .position(|stage| stage.name == done.stage.name)
    });
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for done in &table {
        let (p, f, s) = results::count(&done.tests);
        (passed, failed, skipped) = (passed + p, failed + f, skipped + s);
        let name = done.stage.name.to_owned();
        results.0.insert(name, done.tests.clone());
    }
    // That ZooKeeper passes says nothing of this product.
    if std::env::var_os("TARGET").is_none() {
        results.save()?;
    }
    println!(
        "\n{:<16} {:>8} {:>8} {:>7} {:>7} {:>8}",
        "stage", "seconds", "budget", "passed", "failed", "skipped"
    );
    for Done {
        stage,
        took_s,
        tests,
    } in &table
    {
        let (p, f, s) = results::count(tests);
        let over = if *took_s > stage.budget_s as f64 && !all {
            "  OVER BUDGET"
        } else {
            ""
        };
        println!(
            "{:<16} {took_s:>8.1} {:>8} {p:>7} {f:>7} {s:>8}{over}",
            stage.name, stage.budget_s
        );
    }
    if !mission::is_current(&root()) {
        println!("docs/mission.md does not tell these results: run cargo xtask fix");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(failed == 0)
}

struct Done {
    stage: &'static Stage,
    took_s: f64,
    tests: Tests,
}

fn carry_out(stage: &'static Stage, plan: &Plan) -> Done {
    println!("=== {}", stage.name);
    let began = Instant::now();
    let tests = (stage.run)(plan).unwrap_or_else(|why| {
        println!("{}: {why}", stage.name);
        single(stage.name, Verdict::Failed)
    });
    for (name, _) in tests
        .iter()
        .filter(|(_, verdict)| **verdict == Verdict::Failed)
    {
        println!("FAILED {}: {name}", stage.name);
    }
    Done {
        stage,
        took_s: began.elapsed().as_secs_f64(),
        tests,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn single(name: &str, verdict: Verdict) -> Tests {
    Tests::from([(name.to_owned(), verdict)])
}

/// A stage that is one program: its tests, and the program's own end as one more when that is bad.
fn with_end(name: &str, mut tests: Tests, outcome: &Outcome) -> Tests {
    let none_failed = results::count(&tests).1 == 0;
    if outcome.hung {
        println!("{name}: HUNG: ended after its limit");
        tests.insert(format!("{name} (ended after its limit)"), Verdict::Failed);
    } else if !outcome.ok && none_failed {
        tests.insert(format!("{name} (exit code)"), Verdict::Failed);
    } else if tests.is_empty() {
        tests.insert(format!("{name} (no test ran)"), Verdict::Failed);
    }
    tests
}

fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root());
    command
}

fn verify_stage(_: &Plan) -> Result<Tests, String> {
    let verdict = if verify::run()? {
        Verdict::Passed
    } else {
        Verdict::Failed
    };
    Ok(single("verify", verdict))
}

fn unit(plan: &Plan) -> Result<Tests, String> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    let outcome = process::run(&mut command, plan.limit(1800, 3600), false)?;
    Ok(with_end(
        "unit",
        results::from_cargo(&outcome.output),
        &outcome,
    ))
}

/// Builds what the other stages start; the same profile and features as the tests', so nothing is built twice.
///
/// `ALTHING_BIN` names a binary to be tested in its place, for example that of a release.
fn build() -> Result<PathBuf, String> {
    let _one = lock(&SETTING_UP);
    if let Some(binary) = std::env::var_os("ALTHING_BIN") {
        return Ok(root().join(binary));
    }
    let outcome = process::run(
        cargo().args(["build", "--workspace", "--quiet"]),
        Duration::from_secs(1800),
        false,
    )?;
    let binary = target().join("debug/althing");
    match outcome.ok {
        true => Ok(binary),
        false => Err("cargo build failed".into()),
    }
}

fn lab_cluster_seeds(plan: &Plan) -> Result<Tests, String> {
    let binary = build()?;
    let seeds = if plan.all { "10000" } else { "200" };
    let mut command = Command::new(binary);
    command
        .args(["lab", "cluster", "--turns", "--seeds", seeds, "--jobs", "2"])
        .current_dir(root());
    let outcome = process::run(&mut command, plan.limit(600, 9000), false)?;
    let verdict = if outcome.ok {
        Verdict::Passed
    } else {
        Verdict::Failed
    };
    Ok(with_end(
        "lab",
        single("lab_cluster_seeds", verdict),
        &outcome,
    ))
}

/// The Python of a virtual environment under the target directory with the packages that the tests pin.
fn python() -> Result<PathBuf, String> {
    python_with("requirements")
}

/// The same with what a file of pins names.
fn python_with(pins: &str) -> Result<PathBuf, String> {
    let _one = lock(&SETTING_UP);
    let environment = target().join("venv");
    let python = environment.join("bin/python");
    let stamp = environment.join(format!("{pins}.installed"));
    let pins = root().join(format!("tests/python/{pins}.txt"));
    let wanted = std::fs::read_to_string(&pins)
        .map_err(|e| format!("cannot read {}: {e}", pins.display()))?;
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let limit = Duration::from_secs(300);
    let made = process::run(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(&environment),
        limit,
        true,
    )?;
    if !made.ok {
        return Err(format!(
            "cannot make {}: {}",
            environment.display(),
            made.output
        ));
    }
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
    ])
    .arg(&pins);
    let installed = process::run(&mut pip, limit, true)?;
    if !installed.ok {
        return Err(format!("pip install failed: {}", installed.output));
    }
    std::fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(python)
}

/// Runs files of pytest against the binary and reads what came of each test.
fn pytest(
    stage: &str,
    files: &[&str],
    limit: Duration,
    environment: &[(&str, String)],
) -> Result<Tests, String> {
    let binary = build()?;
    let report = target().join(format!("{stage}.xml"));
    let _ = std::fs::remove_file(&report); // a report of an earlier run must not pass for this one's
    let mut command = Command::new(python()?);
    command.args([
        "-m",
        "pytest",
        "-c",
        "tests/python/pytest.ini",
        "--rootdir",
        "tests/python",
    ]);
    command.arg(format!("--junitxml={}", report.display()));
    command.arg(format!(
        "--basetemp={}",
        target().join("pytest").join(stage).display()
    ));
    command.args(files).current_dir(root());
    command
        .env("ALTHING_BIN", binary)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("ALTHING_TARGET", target());
    command.envs(environment.iter().map(|(key, value)| (*key, value)));
    std::fs::create_dir_all(target().join("pytest"))
        .map_err(|e| format!("cannot make a directory: {e}"))?;
    let outcome = process::run(&mut command, limit, false)?;
    let tests = match outcome.hung {
        true => Tests::new(),
        false => results::read_junit(&report)?,
    };
    Ok(with_end(stage, tests, &outcome))
}

fn clients_python(plan: &Plan) -> Result<Tests, String> {
    let files = [
        "tests/python/test_groups.py",
        "tests/python/test_kazoo_recipes.py",
        "tests/python/test_members.py",
        "tests/python/test_protocol.py",
        "tests/python/test_people.py",
        "tests/python/test_services.py",
        "tests/python/test_jobs.py",
        "tests/python/test_standby.py",
        "tests/python/test_watches.py",
    ];
    pytest("clients-python", &files, plan.limit(900, 900), &[])
}

fn clients_redis(plan: &Plan) -> Result<Tests, String> {
    let files = [
        "tests/python/test_redis.py",
        "tests/python/test_redis_wire.py",
        "tests/python/test_redis_cluster.py",
        "tests/python/test_redis_pools.py",
    ];
    for program in ["redis-cli", "redis-benchmark"] {
        if !process::present(program, "--version") {
            println!("!!! {program} is not installed (Debian: redis-tools): its tests are skipped");
        }
    }
    pytest("clients-redis", &files, plan.limit(1200, 1200), &[])
}

/// The long version has locks on a table, too, which the default build leaves out.
fn clients_locks(plan: &Plan) -> Result<Tests, String> {
    let mut environment = Vec::new();
    if plan.all {
        let mut command = cargo();
        command.args([
            "build",
            "-p",
            "althing",
            "--features",
            "database",
            "--quiet",
        ]);
        if !process::run(&mut command, Duration::from_secs(1800), false)?.ok {
            return Err("cargo build with databases failed".into());
        }
        let binary = target().join("althing-database");
        std::fs::copy(target().join("debug/althing"), &binary)
            .map_err(|e| format!("cannot copy to {}: {e}", binary.display()))?;
        environment.push(("ALTHING_BIN", binary.display().to_string()));
    }
    let files = ["tests/python/test_locks.py"];
    pytest("clients-locks", &files, plan.limit(900, 900), &environment)
}

fn gateway(plan: &Plan) -> Result<Tests, String> {
    let files = ["tests/python/test_gateway.py"];
    pytest("gateway", &files, plan.limit(600, 600), &[])
}

fn computing(plan: &Plan) -> Result<Tests, String> {
    let mut files = vec![
        "tests/python/test_mapreduce.py",
        "tests/python/test_pipeline.py",
    ];
    match python().and_then(|_| python_with("requirements-kafka")) {
        Ok(_) => files.extend([
            "tests/python/test_streams.py",
            "tests/python/test_messages.py",
        ]),
        Err(why) => println!(
            "!!! SKIPPED: streams and messages: confluent-kafka cannot be installed: {why}"
        ),
    }
    pytest("computing", &files, plan.limit(600, 600), &[])
}

fn clients_kafka(plan: &Plan) -> Result<Tests, String> {
    let installed = python().and_then(|_| python_with("requirements-kafka"));
    if let Err(why) = installed {
        println!("!!! SKIPPED: clients-kafka: confluent-kafka cannot be installed: {why}");
        return Ok(single("clients-kafka", Verdict::Skipped));
    }
    let files = ["tests/python/test_kafka.py", "tests/python/test_txn.py"];
    pytest("clients-kafka", &files, plan.limit(900, 900), &[])
}

/// The examples are built with all else, so that no dependency is built twice.
fn rpc(plan: &Plan) -> Result<Tests, String> {
    let setting_up = lock(&SETTING_UP);
    let mut command = cargo();
    command.args(["build", "--workspace", "--bins", "--examples", "--quiet"]);
    if !process::run(&mut command, Duration::from_secs(1800), false)?.ok {
        return Err("cargo build of the examples failed".into());
    }
    drop(setting_up);
    let files = ["tests/python/test_rpc.py", "tests/python/test_actors.py"];
    pytest("rpc", &files, plan.limit(600, 600), &[])
}

fn clients_files(plan: &Plan) -> Result<Tests, String> {
    let installed = python().and_then(|_| python_with("requirements-files"));
    if let Err(why) = installed {
        println!("!!! SKIPPED: clients-files: WebHDFS' clients cannot be installed: {why}");
        return Ok(single("clients-files", Verdict::Skipped));
    }
    let files = ["tests/python/test_files.py"];
    pytest("clients-files", &files, plan.limit(900, 900), &[])
}

/// Postgres is Debian's; without it one service has SQLite, too, and XA is skipped.
fn clients_global(plan: &Plan) -> Result<Tests, String> {
    let installed = python().and_then(|_| python_with("requirements-global"));
    if let Err(why) = installed {
        println!("!!! SKIPPED: clients-global: DTM's client cannot be installed: {why}");
        return Ok(single("clients-global", Verdict::Skipped));
    }
    let has_server =
        std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut all| all.next().is_some());
    if !has_server && !process::present("initdb", "--version") {
        println!("!!! Postgres is not installed (Debian: postgresql): XA is skipped");
    }
    let files = ["tests/python/test_global.py"];
    pytest("clients-global", &files, plan.limit(600, 600), &[])
}

fn faults(plan: &Plan) -> Result<Tests, String> {
    let seconds =
        std::env::var("FAULT_SECONDS").unwrap_or(if plan.all { "900" } else { "60" }.into());
    pytest(
        "faults",
        &["tests/python/test_faults.py"],
        plan.limit(1200, 4000),
        &[("FAULT_SECONDS", seconds)],
    )
}

fn clients_java(plan: &Plan) -> Result<Tests, String> {
    for (program, flag) in [("java", "-version"), ("mvn", "-version")] {
        if !process::present(program, flag) {
            println!(
                "!!! SKIPPED: clients-java: {program} is not installed (Debian: default-jdk-headless, maven)"
            );
            return Ok(single("clients-java", Verdict::Skipped));
        }
    }
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-f", "tests/java/pom.xml", "compile"]);
    maven
        .arg(format!("-Dout={}", target().join("java").display()))
        .current_dir(root());
    let built = process::run(&mut maven, Duration::from_secs(600), false)?;
    if !built.ok {
        return Err("Maven could not build tests/java".into());
    }
    pytest(
        "clients-java",
        &["tests/python/test_java.py"],
        plan.limit(600, 600),
        &[],
    )
}
