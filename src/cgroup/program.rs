//! The program that v2 asks about each access to a device.
//!
//! It is handed `{ access << 16 | type, major, minor }` and answers 1 or 0. Each rule becomes a few
//! comparisons that jump to the next rule; behind the last one stands the refusal.

use super::devices::{DeviceAccess, DeviceRule, DeviceType};

/// One `struct bpf_insn`.
pub(super) type Instruction = [u8; 8];

// linux/bpf.h: classes, sizes and operations, combined.
const LOAD_WORD: u8 = 0x61;
const MOVE_32: u8 = 0xbc;
const SHIFT_RIGHT_32: u8 = 0x74;
const AND_32: u8 = 0x54;
const MOVE_NUMBER: u8 = 0xb7;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

// Where the program keeps what.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Free once the context has been read.
const SCRATCH: u8 = 1;

const TYPE_BLOCK: i32 = 1;
const TYPE_CHARACTER: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> Instruction {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = number.to_ne_bytes();
    // Two registers of four bits each, the destination in the low ones on little-endian machines.
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    [code, registers, low, high, a, b, c, d]
}

/// The program that allows what `rules` name and nothing else.
pub(super) fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, TYPE, CONTEXT, 0, 0),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        instruction(MOVE_32, ACCESS, TYPE, 0, 0),
        instruction(SHIFT_RIGHT_32, ACCESS, 0, 0, 16),
        instruction(AND_32, TYPE, 0, 0, 0xffff),
    ];
    for rule in rules {
        program.extend(one(rule));
    }
    program.push(instruction(MOVE_NUMBER, ANSWER, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

fn one(rule: &DeviceRule) -> Vec<Instruction> {
    let mut tests: Vec<(Option<Instruction>, u8, i32)> = Vec::new();
    match rule.device {
        DeviceType::Character => tests.push((None, TYPE, TYPE_CHARACTER)),
        DeviceType::Block => tests.push((None, TYPE, TYPE_BLOCK)),
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        // Device numbers have 12 and 20 bits: none is lost here.
        tests.extend(number.map(|number| (None, register, number.cast_signed())));
    }
    let forbidden = forbidden(rule.access);
    if forbidden != 0 {
        let copy = instruction(MOVE_32, SCRATCH, ACCESS, 0, 0);
        tests.push((Some(copy), SCRATCH, 0));
    }
    let mut body = Vec::new();
    for (before, register, number) in tests {
        if let Some(copy) = before {
            body.push(copy);
            body.push(instruction(AND_32, SCRATCH, 0, 0, forbidden));
        }
        body.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number));
    }
    body.push(instruction(MOVE_NUMBER, ANSWER, 0, 0, 1));
    body.push(instruction(EXIT, 0, 0, 0, 0));
    // Every test that fails goes on behind this rule.
    let length = i16::try_from(body.len()).unwrap_or(i16::MAX);
    for (at, instruction) in (1_i16..).zip(body.iter_mut()) {
        if instruction[0] == JUMP_NOT_EQUAL {
            [instruction[2], instruction[3]] = (length - at).to_ne_bytes();
        }
    }
    body
}

/// The bits of an access that the rule does not cover.
fn forbidden(access: DeviceAccess) -> i32 {
    let DeviceAccess { read, write, mknod } = access;
    [(read, ACCESS_READ), (write, ACCESS_WRITE), (mknod, ACCESS_MKNOD)]
        .into_iter()
        .filter(|(allowed, _)| !allowed)
        .fold(0, |bits, (_, bit)| bits | bit)
}
