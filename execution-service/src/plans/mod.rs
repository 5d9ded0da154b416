//! Learning plans: modules and tasks that a model writes for a topic; complete, or not there at all.
//!
//! Here are the rules, which know no database and no network: what is kept of a wish (`wish`), what a model is asked
//! (`prompt`), how its answer is read while it comes (`parser`) and judged (`rules`), and how long it may take (`deadline`).
//! What always holds: the same text gives the same modules or the same [`Invalid`] in whatever pieces it came; a module is
//! shown only if it would be stored as it is; no error repeats what a user or a model wrote.

pub mod deadline;
pub mod parser;
pub mod prompt;
pub mod rules;
pub mod status;
pub mod wish;

pub use self::{
    deadline::{Deadline, Late},
    parser::Parser,
    prompt::Prompt,
    rules::{Invalid, Module, Outline, Task},
    status::Status,
    wish::{Bounded, Level, Style, WeeklyHours, Wish},
};
