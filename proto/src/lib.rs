//! The contracts of Studios and the code generated from them, nothing else.
//!
//! Generated types appear in the services' `api.rs` and `convert.rs` alone.

use prost_reflect::DescriptorPool;

/// The contracts of core-service: `studios.core.v1`.
pub mod core {
    #[expect(
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    mod generated {
        tonic::include_proto!("studios.core.v1");
    }
    pub use generated::*;

    /// Under the name that other packages' generated code calls it by.
    pub(crate) mod v1 {
        pub(crate) use super::generated::*;
    }
}

/// The contracts of execution-service: `studios.execution.v1`.
pub mod execution {
    #[expect(
        clippy::pedantic,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::large_enum_variant,
        reason = "generated code"
    )]
    mod generated {
        tonic::include_proto!("studios.execution.v1");
    }
    pub use generated::*;
}

/// The encoded `FileDescriptorSet` of all contracts, with comments, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/studios.binpb"));

/// The contracts' descriptors, for work on messages whose type is known at run time only.
pub fn descriptors() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the build encoded this descriptor set")
}
