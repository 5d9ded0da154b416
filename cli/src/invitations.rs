//! Invitations to a company from a terminal.

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use studios_proto::core::{
    AcceptInvitationRequest, CreateInvitationRequest, Invitation, ListInvitationsRequest, RevokeInvitationRequest, Role,
};

use crate::{
    output::{Output, message_json},
    runs::Access,
};

/// What whoever accepts becomes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum As {
    /// Works in the company's studios.
    Member,
    /// Changes the company.
    Admin,
}

/// What can be done with invitations.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Invite an address, and print what accepts the invitation, this once.
    Create {
        /// The company's id.
        company: String,
        /// The address.
        email: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
        /// What whoever accepts becomes.
        #[arg(long = "as", value_enum, default_value_t = As::Member)]
        role: As,
    },
    /// List a company's invitations, newest first.
    List {
        /// The company's id.
        company: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Take an invitation back.
    Revoke {
        /// The invitation's id.
        invitation: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
    /// Become a member by an invitation to your own address.
    Accept {
        /// What came with the invitation.
        invitation: String,
        /// Which gateway, and as whom.
        #[command(flatten)]
        access: Access,
    },
}

/// Does what was asked for.
pub async fn run(command: &Command, output: Output) -> Result<()> {
    match command {
        Command::Create {
            company,
            email,
            access,
            role,
        } => {
            let role = match role {
                As::Member => Role::Member,
                As::Admin => Role::Admin,
            };
            let remote = access.remote()?;
            let request = remote.request(CreateInvitationRequest {
                invitation: Some(Invitation {
                    company_id: company.clone(),
                    email: email.clone(),
                    role: role.into(),
                    ..Invitation::default()
                }),
            });
            let made = remote.invitations().create_invitation(request).await?.into_inner();
            output.result(
                format_args!("{}\n  send it to {email}: it is not shown again", made.token),
                || message_json(&made),
            );
        }
        Command::List { company, access } => {
            let remote = access.remote()?;
            let request = remote.request(ListInvitationsRequest {
                company_id: company.clone(),
                page_size: 1000,
                page_token: String::new(),
            });
            let listed = remote.invitations().list_invitations(request).await?.into_inner();
            for invitation in listed.invitations {
                output.result(line(&invitation), || message_json(&invitation));
            }
        }
        Command::Revoke { invitation, access } => {
            let remote = access.remote()?;
            let request = remote.request(RevokeInvitationRequest { id: invitation.clone() });
            let revoked = remote.invitations().revoke_invitation(request).await?.into_inner();
            output.result(line(&revoked), || message_json(&revoked));
        }
        Command::Accept { invitation, access } => {
            let remote = access.remote()?;
            let request = remote.request(AcceptInvitationRequest {
                token: invitation.clone(),
            });
            let membership = remote.invitations().accept_invitation(request).await?.into_inner();
            output.result(
                format_args!("{}  {}", membership.company_id, membership.company_name),
                || message_json(&membership),
            );
        }
    }
    Ok(())
}

fn line(invitation: &Invitation) -> String {
    let state = match (&invitation.accept_time, &invitation.revoke_time) {
        (Some(_), _) => "accepted",
        (None, Some(_)) => "taken back",
        (None, None) => "open",
    };
    format!("{}  {}  {state}", invitation.id, invitation.email)
}
