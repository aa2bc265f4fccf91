//! Capability sets.

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::failure::{About, Fault};
use super::steps::Init;

pub(super) fn drop_bound(init: &mut Init<'_>) -> Result<(), Fault> {
    let keep = init.process.capabilities.bounding;
    for number in 0..u64::BITS {
        let bit = 1_u64 << number;
        if keep & bit != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
            bit,
        )) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(Fault::from(errno).about(format!("capability {number}"))),
        }
    }
    Ok(())
}

/// A daemon that is confined itself can pass on only what it has: the rest is missing power, never
/// a hole, so it is noted and not an error.
pub(super) fn set(init: &mut Init<'_>) -> Result<(), Fault> {
    let mut wanted = init.process.capabilities;
    let have = rustix::thread::capabilities(None).about("capget")?.permitted.bits();
    let missing = (wanted.permitted | wanted.inheritable) & !have;
    if missing != 0 {
        init.notes.push(format!("the daemon lacks these capabilities itself: {missing:#x}"));
    }
    wanted.permitted &= have;
    wanted.effective &= have;
    wanted.inheritable &= have;
    wanted.ambient &= have;
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(wanted.effective),
        permitted: CapabilitySet::from_bits_retain(wanted.permitted),
        inheritable: CapabilitySet::from_bits_retain(wanted.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).about("capset")?;
    rustix::thread::clear_ambient_capability_set().about("ambient")?;
    for number in (0..u64::BITS).filter(|number| wanted.ambient & (1_u64 << number) != 0) {
        let capability = CapabilitySet::from_bits_retain(1_u64 << number);
        rustix::thread::configure_capability_in_ambient_set(capability, true)
            .about(&format!("ambient capability {number}"))?;
    }
    Ok(())
}
