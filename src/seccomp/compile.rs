//! Rules to classic BPF, as `seccomp(2)` takes it.
//!
//! ```text
//!   architecture? ─▶ per architecture: number ─ binary search ─▶ action
//!                                                            └─▶ argument checks ─▶ action
//! ```
//!
//! A binary search keeps a call at about nine instructions, and makes the kernel's own pass over
//! all numbers, when it fills its cache of allowed calls, short.

use std::collections::BTreeMap;

use super::arch::Arch;
use super::rule::{Action, Comparison, Operator, Rules};
use crate::error::{Error, Result};

/// One `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) jt: u8,
    pub(super) jf: u8,
    pub(super) k: u32,
}

// linux/bpf_common.h
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_EQUAL: u16 = 0x15;
pub(super) const JUMP_GREATER: u16 = 0x25;
pub(super) const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
pub(super) const RETURN: u16 = 0x06;

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The kernel's BPF_MAXINSNS.
const LONGEST: usize = 4096;
/// A call of the x32 ABI on x86-64 carries this bit.
const X32_BIT: u32 = 0x4000_0000;

/// The filter for `rules`.
///
/// # Errors
/// `InvalidArgument` when it would be longer than the kernel takes.
pub(super) fn compile(rules: &Rules) -> Result<Vec<Instruction>> {
    let mut program = vec![load(ARCHITECTURE)];
    for arch in &rules.arches {
        let section = section(rules, *arch);
        // Falls through to the section when it is this architecture, else jumps over it.
        program.push(jump(JUMP_EQUAL, arch.audit(), 1, 0));
        program.push(skip(section.len()));
        program.extend(section);
    }
    // A process of an architecture without rules: what it calls cannot be told.
    program.push(give(Action::KillProcess));
    if program.len() > LONGEST {
        return Err(Error::invalid(format!(
            "the seccomp profile needs {} instructions, the kernel takes {LONGEST}",
            program.len()
        )));
    }
    Ok(program)
}

/// The filter as the kernel reads it: an array of `struct sock_filter`.
pub(super) fn encode(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for Instruction { code, jt, jf, k } in program {
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(&[*jt, *jf]);
        bytes.extend_from_slice(&k.to_ne_bytes());
    }
    bytes
}

fn section(rules: &Rules, arch: Arch) -> Vec<Instruction> {
    let mut program = vec![load(NUMBER)];
    if arch == Arch::X86_64 {
        // The numbers of x32 are not in our table; a filter that took them for native ones would
        // be no filter.
        program.push(jump(JUMP_GREATER_OR_EQUAL, X32_BIT, 0, 1));
        program.push(give(Action::Errno(libc::ENOSYS)));
    }
    let intervals = intervals(rules, arch);
    search(&intervals, &mut program);
    program
}

/// From its number up to the next interval's, every call gets the same treatment.
struct Interval {
    from: u32,
    treatment: Vec<Instruction>,
}

fn intervals(rules: &Rules, arch: Arch) -> Vec<Interval> {
    let mut by_number: BTreeMap<u32, Vec<Instruction>> = BTreeMap::new();
    for (name, rule) in &rules.calls {
        // Names of later kernels or other architectures mean nothing here.
        if let Some(number) = arch.number(name) {
            by_number.insert(number, treatment(rule, rules.default));
        }
    }
    let rest = vec![give(rules.default)];
    let mut intervals: Vec<Interval> = Vec::new();
    let mut add = |from: u32, treatment: Vec<Instruction>| {
        if intervals.last().is_none_or(|last| last.treatment != treatment) {
            intervals.push(Interval { from, treatment });
        }
    };
    let mut next = 0;
    for (number, treatment) in by_number {
        if number > next {
            add(next, rest.clone());
        }
        add(number, treatment);
        next = number + 1;
    }
    add(next, rest);
    if let Some(unknown) = rules.unknown {
        add(arch.highest() + 1, vec![give(unknown)]);
    }
    intervals
}

/// A balanced tree of comparisons; the number is in the accumulator.
fn search(intervals: &[Interval], program: &mut Vec<Instruction>) {
    let (left, right) = intervals.split_at(intervals.len() / 2);
    let Some(middle) = right.first() else { return };
    if left.is_empty() {
        program.extend_from_slice(&middle.treatment);
        return;
    }
    let mut below = Vec::new();
    search(left, &mut below);
    match u8::try_from(below.len()) {
        Ok(distance) => {
            program.push(jump(JUMP_GREATER_OR_EQUAL, middle.from, distance, 0));
        }
        Err(_) => {
            program.push(jump(JUMP_GREATER_OR_EQUAL, middle.from, 0, 1));
            program.push(skip(below.len()));
        }
    }
    program.extend(below);
    search(right, program);
}

/// What happens to one call: the first case whose comparisons all hold decides.
fn treatment(cases: &[(Vec<Comparison>, Action)], default: Action) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (comparisons, action) in cases {
        let mut case = Vec::new();
        // Built from the end, so that each comparison knows how far it is to the next case.
        case.push(give(*action));
        for comparison in comparisons.iter().rev() {
            let mut whole = check(comparison, case.len());
            whole.append(&mut case);
            case = whole;
        }
        program.append(&mut case);
        if comparisons.is_empty() {
            return program;
        }
    }
    program.push(give(default));
    program
}

/// Goes on behind itself when the comparison holds, else jumps over `rest` more instructions.
fn check(comparison: &Comparison, rest: usize) -> Vec<Instruction> {
    let offset = ARGUMENTS + 8 * u32::from(comparison.argument);
    // Little end first, on all architectures that we have numbers for.
    let (low, high) = (load(offset), load(offset + 4));
    let halves = |value: u64| {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    };
    let (value_low, value_high) = halves(comparison.value);
    // Cases are short: at most six comparisons of at most seven instructions.
    let fail = |beyond: usize| u8::try_from(beyond + rest).unwrap_or(u8::MAX);
    match comparison.operator {
        Operator::Equal => vec![
            high,
            jump(JUMP_EQUAL, value_high, 0, fail(2)),
            low,
            jump(JUMP_EQUAL, value_low, 0, fail(0)),
        ],
        Operator::NotEqual => vec![
            high,
            jump(JUMP_EQUAL, value_high, 0, 2),
            low,
            jump(JUMP_EQUAL, value_low, fail(0), 0),
        ],
        Operator::MaskedEqual { mask } => {
            let (mask_low, mask_high) = halves(mask);
            vec![
                high,
                and(mask_high),
                jump(JUMP_EQUAL, value_high, 0, fail(3)),
                low,
                and(mask_low),
                jump(JUMP_EQUAL, value_low, 0, fail(0)),
            ]
        }
        Operator::Greater => ordered(high, low, [value_high, value_low], JUMP_GREATER, &fail),
        Operator::GreaterOrEqual => {
            ordered(high, low, [value_high, value_low], JUMP_GREATER_OR_EQUAL, &fail)
        }
        Operator::Less => vec![
            high,
            jump(JUMP_GREATER, value_high, fail(3), 0),
            jump(JUMP_EQUAL, value_high, 0, 2),
            low,
            jump(JUMP_GREATER_OR_EQUAL, value_low, fail(0), 0),
        ],
        Operator::LessOrEqual => vec![
            high,
            jump(JUMP_GREATER, value_high, fail(3), 0),
            jump(JUMP_EQUAL, value_high, 0, 2),
            low,
            jump(JUMP_GREATER, value_low, fail(0), 0),
        ],
    }
}

/// `>` and `>=`: the high half decides unless it is equal.
fn ordered(
    high: Instruction,
    low: Instruction,
    [value_high, value_low]: [u32; 2],
    code: u16,
    fail: &dyn Fn(usize) -> u8,
) -> Vec<Instruction> {
    vec![
        high,
        jump(JUMP_GREATER, value_high, 3, 0),
        jump(JUMP_EQUAL, value_high, 0, fail(2)),
        low,
        jump(code, value_low, 0, fail(0)),
    ]
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn and(mask: u32) -> Instruction {
    Instruction { code: AND, jt: 0, jf: 0, k: mask }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// An unconditional jump has a wide distance.
fn skip(distance: usize) -> Instruction {
    // The length check of the whole program comes later and is far below.
    Instruction { code: JUMP, jt: 0, jf: 0, k: u32::try_from(distance).unwrap_or(u32::MAX) }
}

fn give(action: Action) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: action.value() }
}
