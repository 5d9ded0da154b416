//! Agent sessions: conversations that work on a studio's documents and remember.
//!
//! What is here decides and is pure: [`window`] what a model is shown of a conversation, [`edit`] what a changed document is
//! proposed as. They know no clock, no database and no network.

pub mod edit;
pub mod window;
