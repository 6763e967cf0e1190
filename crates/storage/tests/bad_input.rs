//! Bytes that are no units, and commands that make no sense, never harm a machine.

mod rig;

use base::{ApplyFault, Machine, Origin, Rng, State};
use bytes::Bytes;
use rig::{apply, bytes, command, random_command, random_of, stamp, unit};
use storage::cache::{Access, Body, Cache, Command, Ended, Output, Unit, Watched, specs};

fn units() -> Vec<Unit> {
    let key = bytes("k");
    let watched = Watched {
        database: 0,
        key: key.clone(),
        version: 1,
    };
    let ended = Ended {
        database: 0,
        key,
        at_ms: 5,
    };
    let commands = vec![command("SET k v PX 4"), command("GET k"), command("DBSIZE")];
    vec![
        unit(0, Body::One(command("SET k v"))),
        unit(
            3,
            Body::Exec {
                watched: vec![watched.clone(), watched],
                commands,
            },
        ),
        unit(0, Body::Expire(vec![ended.clone(), ended])),
    ]
}

#[test]
fn units_come_back_as_slices_of_their_bytes() {
    for original in units() {
        let source = Bytes::from(original.encode());
        let decoded = Unit::decode(&source).expect("what was encoded");
        assert_eq!(decoded, original);
        if let Body::One(command) = &decoded.body {
            let range = source.as_ptr_range();
            assert!(command.args.iter().all(|arg| range.contains(&arg.as_ptr())));
        }
        for length in 0..source.len() {
            assert!(Unit::decode(&source.slice(..length)).is_err());
        }
    }
}

#[test]
fn key_that_a_unit_is_about_is_read_from_its_bytes_or_none_is() {
    let key = |unit: &Unit| Unit::key_of(&unit.encode()).map(|(at, key)| (at, key.to_vec()));
    let named = |line: &str| key(&unit(3, Body::One(command(line))));
    assert_eq!(named("SET k v"), Some((3, b"k".to_vec())));
    assert_eq!(named("DBSIZE"), None);
    assert!(units()[1..].iter().all(|unit| key(unit).is_none()));
    let whole = units()[0].encode();
    assert!(
        (0..whole.len()).all(|cut| Unit::key_of(&whole[..cut]).is_none_or(|(_, key)| key == b"k"))
    );
}

#[test]
fn what_is_brought_near_stays_as_it_was() {
    let (mut cache, mut rng) = (Cache::new(), Rng::new(7));
    // Many of one slot, so that its table has an index; and many slots.
    for n in 0..3_000 {
        for line in [
            format!("SET {{a}}{n} {n}"),
            format!("SET k{n} {n}"),
            format!("LPUSH l{n} {n}"),
        ] {
            apply(&mut cache, stamp(n, 7), 0, command(&line));
        }
    }
    let digest = cache.digest();
    for _ in 0..200 {
        let keys: Vec<(u32, String)> = (0..rng.range(0, 40))
            .map(|_| {
                let name = ["{a}", "k", "l", "none"][rng.range(0, 4) as usize];
                let database = [0, 0, 0, 1, 99][rng.range(0, 5) as usize];
                (database, format!("{name}{}", rng.range(0, 3_000)))
            })
            .collect();
        cache.approach(keys.iter().map(|(at, key)| (*at, key.as_bytes())));
    }
    assert_eq!(cache.digest(), digest);
    assert_eq!(cache.key_count(0), 9_000);
}

#[test]
fn undecodable_unit_stops_the_replica_and_changes_nothing() {
    let mut machine = Cache::new();
    let digest = machine.digest();
    let mut unknown = unit(0, Body::One(command("SET a b"))).encode();
    let number = unknown
        .windows(2)
        .position(|two| two == [0, 2])
        .expect("SET is 2");
    unknown[number] = 0x7f;
    for bytes in [&[][..], &[1, 2, 3], &[0xff; 100], &unknown] {
        let result = machine.apply(stamp(9, 9), bytes, &mut Vec::new());
        assert!(matches!(result, Err(ApplyFault::UnknownCommand(_))));
    }
    assert_eq!(machine.digest(), digest);
}

#[test]
fn mutated_units_are_refused_or_applied_alike_everywhere() {
    let originals: Vec<Vec<u8>> = units().iter().map(Unit::encode).collect();
    let mut rng = Rng::new(2);
    for _ in 0..1500 {
        let mut machines = [Cache::new(), Cache::new()];
        let mut outputs = [Vec::<Output>::new(), Vec::new()];
        let mut stream = originals.clone();
        for _ in 0..rng.range(1, 4) {
            let at = rng.range(0, stream.len() as u64) as usize;
            let unit = &mut stream[at];
            let byte = rng.range(0, unit.len() as u64) as usize;
            match rng.range(0, 4) {
                0 => unit[byte] ^= 1 << rng.range(0, 8),
                1 => unit[byte] = [0, 0x7f, 0x80, 0xff][rng.range(0, 4) as usize],
                2 => unit.truncate(byte.max(1)),
                _ => drop(unit.remove(byte)),
            }
            if unit.is_empty() {
                unit.push(0);
            }
        }
        for (machine, out) in machines.iter_mut().zip(&mut outputs) {
            for bytes in &stream {
                let _ = machine.apply(stamp(7, 7), bytes, out);
            }
        }
        assert_eq!(machines[0].digest(), machines[1].digest());
        assert_eq!(outputs[0], outputs[1]);
    }
}

/// Keys of every kind, none of which ends while the test runs.
fn filled(rng: &mut Rng) -> Cache {
    let mut cache = Cache::new();
    for _ in 0..1500 {
        apply(
            &mut cache,
            stamp(1000, rng.next_u64()),
            0,
            random_command(rng),
        );
    }
    let mut out = Vec::new();
    let ended = cache.expired(1000, usize::MAX);
    let unit = unit(0, Body::Expire(ended));
    cache
        .apply_unit(stamp(1000, 0), unit, &mut out)
        .expect("known");
    cache
}

#[test]
fn any_command_with_any_arguments_is_answered_and_a_refused_one_changes_nothing() {
    let mut rng = Rng::new(3);
    let mut refusals = 0;
    let mut cache = filled(&mut rng);
    for round in 0..200 {
        for spec in specs() {
            let mut command = random_of(&mut rng, spec);
            if round % 5 == 0 {
                let count = rng.range(0, 7) as usize;
                command.args = (0..count)
                    .map(|_| {
                        let mut bytes = vec![0; rng.range(0, 24) as usize];
                        rng.fill(&mut bytes);
                        Bytes::from(bytes)
                    })
                    .collect();
            }
            command.keys().for_each(drop);
            let before = (cache.digest(), cache.counts());
            if spec.access == Access::Read {
                cache.read(1000, 0, &command);
                assert_eq!((cache.digest(), cache.counts()), before);
            }
            let line = format!("{} {:?}", spec.name, command.args);
            let reply = apply(&mut cache, stamp(1000, rng.next_u64()), 0, command);
            if reply.is_error() {
                refusals += 1;
                assert_eq!(
                    (cache.digest(), cache.counts()),
                    before,
                    "{line}: {reply:?}"
                );
            }
        }
        if cache.key_count(0) < 10 {
            cache = filled(&mut rng);
        }
    }
    assert!(refusals > 1000, "{refusals}");
}

#[test]
fn a_write_is_no_read() {
    let cache = Cache::new();
    assert!(cache.read(0, 0, &command("SET a 1")).is_error());
    assert!(cache.read(0, 99, &command("GET a")).is_error());
    let none = Command {
        id: command("GET a").id,
        args: Vec::new(),
    };
    assert!(cache.read(0, 0, &none).is_error());
}

#[test]
fn same_units_make_the_same_digests_and_outputs() {
    let mut rng = Rng::new(4);
    let mut machines = [Cache::new(), Cache::new()];
    for step in 0..20_000 {
        let commands: Vec<Command> = (0..rng.range(1, 4))
            .map(|_| random_command(&mut rng))
            .collect();
        let body = match commands.len() {
            1 => Body::One(commands.into_iter().next().expect("one")),
            _ => Body::Exec {
                watched: Vec::new(),
                commands,
            },
        };
        let mut unit = unit(rng.range(0, 2) as u32, body);
        unit.origin = Origin::default();
        let bytes = unit.encode();
        let stamp = stamp(1000 + step, rng.next_u64());
        let mut outputs = [Vec::new(), Vec::new()];
        // Reads on one of them must not show.
        machines[0].read(step, 0, &random_command(&mut rng));
        for (machine, out) in machines.iter_mut().zip(&mut outputs) {
            machine.apply(stamp, &bytes, out).expect("known");
        }
        assert_eq!(
            format!("{:?}", outputs[0]),
            format!("{:?}", outputs[1]),
            "step {step}"
        );
        assert_eq!(machines[0].digest(), machines[1].digest(), "step {step}");
    }
}

#[test]
fn stored_bytes_do_not_pin_the_buffer_that_they_came_from() {
    let mut cache = Cache::new();
    let buffer = Bytes::from(vec![b'x'; 1 << 20]);
    for name in ["SET", "RPUSH", "SADD", "HSET"] {
        let mut set = command(&format!("{name} {name}"));
        let count = if name == "HSET" { 2 } else { 1 };
        (0..count).for_each(|_| set.args.push(buffer.slice(..40)));
        apply(&mut cache, stamp(1, 1), 0, set);
    }
    // Alone again: everything stored is a copy.
    assert!(buffer.is_unique());
}
