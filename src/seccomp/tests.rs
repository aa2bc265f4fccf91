//! The compiler against a plain reading of the rules, through an interpreter of BPF.

use std::collections::HashMap;

use proptest::prelude::*;

use super::arch::Arch;
use super::compile::{
    AND, Instruction, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD, RETURN, compile,
};
use super::profile::{Circumstances, Profile};
use super::rule::{Action, Comparison, Operator, Rules};
use super::{Cache, default, has_capability};
use crate::error::Kind;

const ALL: u64 = u64::MAX;
/// What Docker gives by default, SYS_ADMIN not among it.
const USUAL: u64 = 0xa804_25fb;

/// What the kernel would answer.
fn interpret(program: &[Instruction], audit: u32, number: u32, arguments: &[u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => number,
        4 => audit,
        offset => {
            let argument = arguments[(offset as usize - 16) / 8];
            let half = if offset % 8 == 0 { argument & 0xffff_ffff } else { argument >> 32 };
            u32::try_from(half).unwrap()
        }
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            LOAD => accumulator = word(k),
            AND => accumulator &= k,
            JUMP => at += k as usize,
            JUMP_EQUAL => branch(accumulator == k),
            JUMP_GREATER => branch(accumulator > k),
            JUMP_GREATER_OR_EQUAL => branch(accumulator >= k),
            RETURN => return k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

type Cases = Vec<(Vec<Comparison>, Action)>;

fn by_number(rules: &Rules, arch: Arch) -> HashMap<u32, &Cases> {
    rules.calls.iter().filter_map(|(name, cases)| Some((arch.number(name)?, cases))).collect()
}

/// What the rules say, read plainly.
fn expected(
    rules: &Rules,
    calls: &HashMap<u32, &Cases>,
    arch: Arch,
    number: u32,
    arguments: &[u64; 6],
) -> Action {
    let Some(cases) = calls.get(&number) else {
        let is_unknown = number > arch.highest();
        return rules.unknown.filter(|_| is_unknown).unwrap_or(rules.default);
    };
    let holds = |(comparisons, _): &&(Vec<Comparison>, Action)| {
        comparisons.iter().all(|comparison| comparison.holds(arguments))
    };
    cases.iter().find(holds).map_or(rules.default, |(_, action)| *action)
}

fn default_answer(capabilities: u64, name: &str, arguments: [u64; 6]) -> u32 {
    let program = compile(&default::rules(capabilities)).unwrap();
    let arch = Arch::native()[0];
    interpret(&program, arch.audit(), arch.number(name).unwrap(), &arguments)
}

#[test]
fn every_call_of_every_architecture_gets_what_the_default_profile_says() {
    for capabilities in [0, USUAL, ALL] {
        let rules = default::rules(capabilities);
        let program = compile(&rules).unwrap();
        for arch in Arch::native() {
            let calls = by_number(&rules, arch);
            for number in 0..600 {
                for first in [0, 1, 2, 10, 38, 0x1000_0000, 0x1_0000_0001, u64::MAX] {
                    let arguments = [first, 0, 0, 0, 0, 0];
                    assert_eq!(
                        interpret(&program, arch.audit(), number, &arguments),
                        expected(&rules, &calls, arch, number, &arguments).value(),
                        "{arch:?} call {number} with {first:#x}, capabilities {capabilities:#x}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_container_cannot_make_a_user_namespace_or_reach_what_breaks_out() {
    let allow = Action::Allow.value();
    let denied = Action::Errno(libc::EPERM).value();

    assert_eq!(default_answer(USUAL, "clone", [0x1000_0011, 0, 0, 0, 0, 0]), denied);
    assert_eq!(default_answer(USUAL, "clone", [0x11, 0, 0, 0, 0, 0]), allow);
    assert_eq!(default_answer(USUAL, "clone3", [0; 6]), Action::Errno(libc::ENOSYS).value());
    for name in ["unshare", "mount", "bpf", "keyctl", "io_uring_setup", "userfaultfd", "kexec_load"]
    {
        assert_eq!(default_answer(USUAL, name, [0; 6]), denied, "{name}");
    }
    // AF_ALG and AF_VSOCK
    for family in [38, 40] {
        assert_eq!(default_answer(USUAL, "socket", [family, 0, 0, 0, 0, 0]), denied);
    }
    assert_eq!(default_answer(ALL, "unshare", [0; 6]), allow);
}

#[test]
fn a_call_of_a_later_kernel_is_not_there_rather_than_refused() {
    let program = compile(&default::rules(USUAL)).unwrap();
    let arch = Arch::native()[0];
    let answer = interpret(&program, arch.audit(), arch.highest() + 1, &[0; 6]);
    assert_eq!(answer, Action::Errno(libc::ENOSYS).value());
}

#[test]
fn foreign_and_x32_calls_are_not_taken_for_native_ones() {
    let program = compile(&default::rules(ALL)).unwrap();
    assert_eq!(interpret(&program, 0x8000_0016, 1, &[0; 6]), Action::KillProcess.value());
    if Arch::native()[0] == Arch::X86_64 {
        let x32 = interpret(&program, Arch::X86_64.audit(), 0x4000_0001, &[0; 6]);
        assert_eq!(x32, Action::Errno(libc::ENOSYS).value());
    }
}

#[test]
fn every_name_in_the_default_profile_is_a_call_of_some_architecture() {
    let known: Vec<_> = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm]
        .into_iter()
        .flat_map(Arch::names)
        .collect();
    // Calls of architectures and kernels that the table of numbers lacks.
    let beyond = [
        "fstatat64",
        "arm_sync_file_range",
        "sync_file_range2",
        "set_tls",
        "breakpoint",
        "cacheflush",
        "riscv_flush_icache",
        "utimensat_time64",
        "stime",
        "uretprobe",
        "file_getattr",
        "file_setattr",
        "map_shadow_stack",
        "umount",
        "open_tree_attr",
    ];
    for name in default::rules(ALL).calls.keys() {
        assert!(known.contains(&name.as_str()) || beyond.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn capabilities_are_told_by_name() {
    assert!(has_capability(1 << 21, "CAP_SYS_ADMIN"));
    assert!(has_capability(1, "CHOWN"));
    assert!(!has_capability(1, "CAP_SYS_ADMIN"));
    assert!(!has_capability(ALL, "CAP_OF_NO_KERNEL"));
}

fn resolve(json: &str, capabilities: u64) -> crate::error::Result<Rules> {
    Profile::parse(json.as_bytes())?.resolve(Circumstances {
        has_capability: &|name| has_capability(capabilities, name),
        kernel: (6, 1),
    })
}

#[test]
fn conditions_of_a_profile_file_are_honoured() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "7.0"}},
        {"names": ["umask"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}}]}"#;

    let names = |rules: Rules| rules.calls.into_keys().collect::<Vec<_>>();
    assert_eq!(names(resolve(json, 0).unwrap()), ["read"]);
    assert_eq!(names(resolve(json, ALL).unwrap()), ["mount", "read"]);
}

#[test]
fn a_profile_that_means_nothing_is_refused_by_what_is_wrong() {
    for (json, word) in [
        (r#"{"syscalls": []}"#, "defaultAction"),
        (r#"{"defaultAction": "ALLOW"}"#, "ALLOW"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}"#, "X"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
               "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]}"#,
            "index 6",
        ),
        ("not json", "not a seccomp profile"),
    ] {
        let error = resolve(json, 0).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.chain().contains(word), "{}", error.chain());
    }
    let notify = resolve(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, 0).unwrap_err();
    assert_eq!(notify.kind(), Kind::Unsupported);
}

#[test]
fn a_file_is_compiled_once_and_a_missing_one_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("profile.json");
    let missing = Cache::default().localhost(&path, 0).unwrap_err();
    assert_eq!(missing.kind(), Kind::InvalidArgument);
    assert!(missing.chain().contains("profile.json"), "{}", missing.chain());

    let file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut &file, br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    let cache = Cache::default();
    assert_eq!(cache.localhost(&path, 0).unwrap(), cache.localhost(&path, 0).unwrap());
    assert_eq!(cache.filters.lock().unwrap().len(), 1);
}

fn operators() -> impl Strategy<Value = Operator> {
    prop_oneof![
        Just(Operator::Equal),
        Just(Operator::NotEqual),
        Just(Operator::Less),
        Just(Operator::LessOrEqual),
        Just(Operator::Greater),
        Just(Operator::GreaterOrEqual),
        any::<u64>().prop_map(|mask| Operator::MaskedEqual { mask }),
    ]
}

/// Values around the borders of both halves.
fn values() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4_u64,
        Just(0xffff_ffff),
        Just(0x1_0000_0000),
        Just(0x1_0000_0001),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

proptest! {
    #[test]
    fn comparisons_compile_to_what_they_say(
        cases in proptest::collection::vec(
            (proptest::collection::vec((0..2_u8, operators(), values()), 1..4), 1..40_i32), 1..4),
        arguments in [values(), values(), values(), values(), values(), values()],
    ) {
        let arch = Arch::native()[0];
        let mut rules = Rules {
            arches: vec![arch],
            default: Action::Errno(libc::EPERM),
            unknown: None,
            calls: Default::default(),
            flags: 0,
        };
        for (comparisons, errno) in cases {
            let comparisons = comparisons
                .into_iter()
                .map(|(argument, operator, value)| Comparison { argument, operator, value })
                .collect();
            rules.add("read", comparisons, Action::Errno(errno));
        }
        let number = arch.number("read").unwrap();
        let program = compile(&rules).unwrap();
        prop_assert_eq!(
            interpret(&program, arch.audit(), number, &arguments),
            expected(&rules, &by_number(&rules, arch), arch, number, &arguments).value()
        );
    }
}
