//! Cais: one container engine behind two front doors.
//!
//! | module | owns |
//! |---|---|
//! | `error`, `id` | the words every layer shares |

// Until the daemon's main wires every module in, most items have no caller outside tests.
#![expect(dead_code, reason = "modules land before their callers")]

mod error;
mod id;
