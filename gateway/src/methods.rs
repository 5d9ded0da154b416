//! The RPCs that the gateway serves, read from the contracts.
//!
//! What is not in this table does not exist for a caller: a misspelt method, a service that is meant for the other
//! service only, and the backends' own health and reflection are all answered alike.

use std::collections::{BTreeMap, HashMap};

use prost_reflect::MethodDescriptor;
use service_kit::methods;

/// Services that take tokens of services or operators only, which no caller of the gateway may have, or that the gateway calls
/// itself.
const INTERNAL: [&str; 8] = [
    "studios.core.v1.AccessService",
    "studios.core.v1.EmbeddingService",
    "studios.core.v1.NoticeService",
    "studios.core.v1.OperatorService",
    "studios.core.v1.PrivacyWorkService",
    "studios.core.v1.TransferService",
    "studios.execution.v1.FlowCallbackService",
    "studios.execution.v1.ReplicaService",
];

/// Which service answers an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Core,
    Execution,
}

impl Backend {
    /// The backend that serves a package of the contracts.
    fn of_package(package: &str) -> Option<Self> {
        match package {
            "studios.core.v1" => Some(Self::Core),
            "studios.execution.v1" => Some(Self::Execution),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Core => "core-service",
            Self::Execution => "execution-service",
        }
    }
}

/// An RPC that callers may use.
#[derive(Debug, Clone)]
pub(crate) struct Method {
    pub(crate) backend: Backend,
    pub(crate) descriptor: MethodDescriptor,
}

/// What the names of RPCs begin with that change nothing here and reach others: a model that is paid for, somebody's mailbox.
const REACHES_OTHERS: &str = "Test";

/// The service whose RPCs take no token.
const PUBLIC: &str = "studios.core.v1.AuthService";

impl Method {
    /// Whether it may be called without a token.
    pub(crate) fn is_public(&self) -> bool {
        self.descriptor.parent_service().full_name() == PUBLIC
    }

    /// Whether one message is asked and one answered.
    pub(crate) fn is_unary(&self) -> bool {
        !self.descriptor.is_client_streaming() && !self.descriptor.is_server_streaming()
    }

    /// Whether it is unary, changes nothing, here or elsewhere: asked twice, it is as good as asked once.
    pub(crate) fn is_read(&self) -> bool {
        let name = self.descriptor.name();
        self.is_unary() && methods::is_read(name) && !name.starts_with(REACHES_OTHERS)
    }
}

/// All RPCs that callers may use, by path.
#[derive(Debug)]
pub(crate) struct Methods(HashMap<String, Method>);

impl Methods {
    /// Reads the contracts.
    pub(crate) fn public() -> Self {
        let mut methods = HashMap::new();
        for service in studios_proto::descriptors().services() {
            let Some(backend) = Backend::of_package(service.package_name()) else {
                continue;
            };
            if INTERNAL.contains(&service.full_name()) {
                continue;
            }
            for descriptor in service.methods() {
                let path = format!("/{}/{}", service.full_name(), descriptor.name());
                methods.insert(path, Method { backend, descriptor });
            }
        }
        Self(methods)
    }

    /// The RPC of a request path.
    pub(crate) fn find(&self, path: &str) -> Option<&Method> {
        self.0.get(path)
    }

    /// All of them with their paths, by these.
    pub(crate) fn sorted(&self) -> BTreeMap<String, Method> {
        self.0
            .iter()
            .map(|(path, method)| (path.clone(), method.clone()))
            .collect()
    }

    /// The full names of the services, sorted.
    pub(crate) fn services(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .0
            .values()
            .map(|method| method.descriptor.parent_service().full_name().to_owned())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_decides_which_service_answers() {
        let methods = Methods::public();
        let backend = |path| methods.find(path).map(|method| method.backend);
        assert_eq!(backend("/studios.core.v1.StudioService/GetStudio"), Some(Backend::Core));
        assert_eq!(
            backend("/studios.execution.v1.WorkflowService/GetWorkflow"),
            Some(Backend::Execution)
        );
    }

    #[test]
    fn what_is_internal_unknown_or_misspelt_is_not_there() {
        let methods = Methods::public();
        for path in [
            "/studios.core.v1.AccessService/CheckStudio",
            "/studios.core.v1.TransferService/GetUpload",
            "/studios.execution.v1.ReplicaService/FollowRun",
            "/studios.core.v1.OperatorService/SuspendCompany",
            "/studios.execution.v1.FlowCallbackService/TakeCallback",
            "/studios.core.v1.StudioService/Nothing",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/studios.core.v1.StudioService",
            "/",
        ] {
            assert!(methods.find(path).is_none(), "{path}");
        }
        assert!(!methods.services().iter().any(|name| INTERNAL.contains(&name.as_str())));
    }

    #[test]
    fn what_changes_something_or_streams_is_no_read() {
        let methods = Methods::public();
        let is_read = |path| methods.find(path).map(Method::is_read);
        for path in [
            "/studios.core.v1.DocumentService/SearchChunks",
            "/studios.core.v1.StudioService/GetStudio",
            "/studios.execution.v1.ExecutionService/WaitExecution",
        ] {
            assert_eq!(is_read(path), Some(true), "{path}");
        }
        for path in [
            "/studios.core.v1.AuthService/Refresh",
            "/studios.core.v1.FileService/DownloadFile",
            "/studios.core.v1.StudioService/CreateStudio",
            "/studios.execution.v1.ExecutionService/StartExecution",
            "/studios.execution.v1.ExecutionService/WatchExecution",
            "/studios.execution.v1.ConnectionService/TestConnection",
        ] {
            assert_eq!(is_read(path), Some(false), "{path}");
        }
    }

    #[test]
    fn every_internal_service_is_in_the_contracts() {
        let all = studios_proto::descriptors();
        for name in INTERNAL {
            assert!(all.get_service_by_name(name).is_some(), "{name}");
        }
    }
}
