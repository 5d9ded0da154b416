//! Where a call comes from and what makes it: shown to the user beside his sessions, and counted by the limits.

use service_kit::limits::ClientAddress;

const USER_AGENT_CHARS: usize = 200;

/// Where a call comes from. What it calls itself is anybody's word.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// The address, where it is known.
    pub address: Option<ClientAddress>,
    /// The user agent, as it calls itself.
    pub user_agent: Option<String>,
}

impl Device {
    /// That of a request.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let agent = request.metadata().get("user-agent").and_then(|it| it.to_str().ok());
        Self {
            address: ClientAddress::of(request),
            user_agent: agent.map(named).filter(|it| !it.is_empty()),
        }
    }
}

/// A name without what the gateway's own client adds to it.
fn named(agent: &str) -> String {
    let own = agent.rsplit_once(" tonic/").map_or(agent, |(own, _)| own);
    own.trim().chars().take(USER_AGENT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_its_own_word_and_not_the_gateways() {
        assert_eq!(named("Mozilla/5.0 (X11) tonic/0.14.9"), "Mozilla/5.0 (X11)");
        assert_eq!(named("tonic/0.14.9"), "tonic/0.14.9");
        assert_eq!(named(&"a".repeat(300)).len(), USER_AGENT_CHARS);
    }
}
