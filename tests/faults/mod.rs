//! What goes wrong in the world: processes die, models answer badly, tokens are not what they say.

mod answers;
mod crash;
mod database;
mod hostile;
mod replicas;
mod tokens;
