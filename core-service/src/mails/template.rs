//! What mails say: plain text, one idea each, with a link where the installation has pages for it.

use serde_json::{Map, Value};
use url::Url;

use super::{Mail, MailToken, Notice};

/// A mail's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) subject: String,
    pub(super) body: String,
}

/// Writes a mail. `token` is there where its kind carries one; `pages` is where links lead to.
pub(super) fn write(mail: &Mail, token: Option<&MailToken>, pages: Option<&Url>) -> Words {
    let token = token.map(MailToken::expose).unwrap_or_default();
    let use_it = |kind: &str, code: &str| how(pages, kind, code);
    let (subject, body) = match mail {
        Mail::Verification { .. } => (
            "Confirm your e-mail address".to_owned(),
            format!(
                "Please confirm that this is your e-mail address. {}\n\nIt works once, within a day. If you did not ask for \
                 this, do nothing.",
                use_it("verification", &token)
            ),
        ),
        Mail::PasswordReset { .. } => (
            "Set a new password".to_owned(),
            format!(
                "Somebody asked to set a new password for your account. {}\n\nIt works once, within an hour. If it was not \
                 you, do nothing: your password stays as it is.",
                use_it("password_reset", &token)
            ),
        ),
        Mail::EmailChange { .. } => (
            "Confirm your new e-mail address".to_owned(),
            format!(
                "Please confirm that your account is to have this e-mail address. {}\n\nIt works once, within a day. If you \
                 did not ask for this, do nothing.",
                use_it("email_change", &token)
            ),
        ),
        Mail::Invitation {
            company, inviter, code, ..
        } => (
            format!("Invitation to {}", line(company)),
            format!(
                "{} invites you to {}. {}\n\nThe invitation is for this e-mail address alone and works once.",
                line(inviter),
                line(company),
                use_it("invitation", code)
            ),
        ),
        Mail::AddressTaken { .. } => (
            "You have an account already".to_owned(),
            "Somebody, perhaps you, wanted to use this e-mail address for an account, but you have one with it. If it was \
             you, sign in, or ask for a new password. If it was not you, do nothing."
                .to_owned(),
        ),
        Mail::Notification {
            company, topic, data, ..
        } => notification(company, topic, data),
        Mail::ChannelDisabled {
            company,
            channel,
            reason,
            ..
        } => (
            format!("Notifications of {} were switched off", line(company)),
            format!(
                "The channel \"{}\" has taken nothing for days, so nothing is sent to it any more. The last time: {}. Once its \
                 receiver is well, switch the channel on again; what failed is in its log and can be sent once more.",
                line(channel),
                line(reason)
            ),
        ),
        Mail::SecurityNotice { what, .. } => notice(what),
    };
    Words {
        subject,
        body: format!("{body}\n"),
    }
}

/// What happened, and under it what is known of it, a line each.
fn notification(company: &str, topic: &str, data: &Map<String, Value>) -> (String, String) {
    let text = |name: &str| line(data.get(name).and_then(Value::as_str).unwrap_or_default());
    let run = |what: &str| match text("workflow_name") {
        name if name.is_empty() => format!("A run {what}"),
        name => format!("A run of \"{name}\" {what}"),
    };
    let what = match topic {
        "execution.failed" => run("has failed"),
        "approval.waiting" => run("waits for a decision"),
        "approval.reminder" => run("still waits for a decision"),
        "approval.escalated" => run("waits for a decision, and others may decide now"),
        "quota.warning" => format!("Four fifths of the plan's {} are used", text("quota").replace('_', " ")),
        "quota.reached" => format!("Nothing is left of the plan's {}", text("quota").replace('_', " ")),
        "security.event" => format!("Access was changed: {}", text("action")),
        _ => "This is a test".to_owned(),
    };
    let told = data.iter().filter_map(|(name, value)| {
        let value = match value {
            Value::String(text) => line(text),
            Value::Number(number) => number.to_string(),
            Value::Bool(is_so) => is_so.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(format!("{}: {value}", line(name).replace('_', " ")))
    });
    let told: Vec<_> = told.collect();
    let company = line(company);
    (format!("{company}: {what}"), format!("{what}.\n\n{}", told.join("\n")))
}

fn notice(what: &Notice) -> (String, String) {
    let (subject, what) = match what {
        Notice::PasswordChanged => (
            "Your password was changed",
            "The password of your account was changed, and other sessions were ended.".to_owned(),
        ),
        Notice::EmailChanged(to) => (
            "Your e-mail address was changed",
            format!("Your account has the e-mail address {to} from now on, and no longer this one."),
        ),
        Notice::SecondFactorAdded => (
            "Signing in takes a code now",
            "A second factor was added to your account, and other sessions were ended.".to_owned(),
        ),
        Notice::SecondFactorRemoved => (
            "Signing in takes no code any more",
            "The second factor of your account was removed.".to_owned(),
        ),
        Notice::RecoveryCodeUsed(left) => (
            "A recovery code was used",
            format!("Somebody signed in to your account with a recovery code. {left} are left."),
        ),
    };
    let body = format!("{what} If it was not you, set a new password at once and end all sessions.");
    (subject.to_owned(), body)
}

/// A link, or the code alone where there are no pages.
fn how(pages: Option<&Url>, kind: &str, code: &str) -> String {
    let Some(pages) = pages else {
        return format!("Your code is:\n\n{code}");
    };
    let mut link = pages.clone();
    link.query_pairs_mut()
        .append_pair("type", kind)
        .append_pair("token", code);
    format!("Open this link:\n\n{link}")
}

/// What users wrote, as one short line: it must not look like ours.
fn line(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|it| !it.is_control())
        .take(100)
        .collect()
}

#[cfg(test)]
mod tests {
    use service_kit::{ids::MailId, keys::KeyRing};

    use super::*;

    #[test]
    fn a_mail_has_its_token_as_a_link_or_as_a_code() {
        let mail = Mail::PasswordReset {
            to: "ada@example.com".parse().unwrap(),
        };
        let token = MailToken::of(&KeyRing::generate(), MailId::generate());
        let pages = Url::parse("https://app.example/account?lang=en").unwrap();
        let with_pages = write(&mail, Some(&token), Some(&pages)).body;
        let link = format!(
            "https://app.example/account?lang=en&type=password_reset&token={}\n",
            token.expose()
        );
        assert!(with_pages.contains(&link), "{with_pages}");
        let without = write(&mail, Some(&token), None).body;
        assert!(without.contains(&format!("\n\n{}\n", token.expose())), "{without}");
    }

    #[test]
    fn what_users_wrote_stays_one_line() {
        let mail = Mail::Invitation {
            to: "ada@example.com".parse().unwrap(),
            company: "Works\r\nBcc: all@example.com\n\nYour account".into(),
            inviter: "x".repeat(500),
            code: "c".into(),
        };
        let words = write(&mail, None, None);
        assert_eq!(words.subject, "Invitation to Works Bcc: all@example.com Your account");
        let first = words.body.lines().next().unwrap();
        let company = "Works Bcc: all@example.com Your account";
        assert_eq!(
            first,
            format!("{} invites you to {company}. Your code is:", "x".repeat(100))
        );
    }
}
