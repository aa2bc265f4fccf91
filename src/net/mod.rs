//! The pods' network.

pub(crate) mod bridge;
pub(crate) mod leases;
pub(crate) mod netlink;
#[cfg(test)]
mod testing;
