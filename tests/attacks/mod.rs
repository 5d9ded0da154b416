//! Attacks by the OWASP API top ten of 2023, each a named test that fails where the attack succeeds.
//!
//! | risk | where |
//! |---|---|
//! | API1 broken object level authorization | `objects`, `pool`, and the matrix in `tenancy` |
//! | API2 broken authentication | `timing`, and `faults::tokens`, `scenarios::limits` |
//! | API3 broken object property level authorization | `properties` |
//! | API4 unrestricted resource consumption | `consumption` |
//! | API5 broken function level authorization | the matrix in `tenancy` |
//! | API8 security misconfiguration, API9 inventory | `smuggling`, and the gateway's own tests |
//! | API10 unsafe consumption of APIs | `faults::answers`, `faults::hostile` |
//! | secrets and logs | `telemetry` |

mod consumption;
mod objects;
mod pool;
mod properties;
mod smuggling;
mod telemetry;
mod timing;
