//! The gateway's behaviour, seen from outside: real clients, real services behind it, everything on port 0.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod connect;
mod connections;
mod cors;
mod faults;
mod grpc_web;
mod line;
mod metadata;
mod native;
mod openapi;
mod pages;
mod passthrough;
mod services;
mod support;
