//! Lists of a studio's workflows: filters, orders, and where a page ends.
//!
//! The studio's index bounds what is looked at; filters and orders other than the newest first are applied to those rows.

use serde::{Deserialize, Serialize};
use service_kit::{
    auth::Caller,
    db::TenantTx,
    error::Result,
    ids::{StudioId, UserId, WorkflowId},
    page::Page,
};
use time::OffsetDateTime;

use super::{Summary, list_store};
use crate::App;

/// Which workflows to list, and in which order.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Filter {
    /// The studio.
    pub(super) studio: StudioId,
    /// Also softly deleted ones.
    pub(super) show_deleted: bool,
    /// Only those whose name contains this, whatever the case of its letters.
    pub(super) name_contains: Option<String>,
    /// Only those with this tag in their metadata.
    pub(super) tag: Option<String>,
    /// Only those of this user.
    pub(super) owner: Option<UserId>,
    /// Only those with a published version.
    pub(super) only_published: bool,
    /// Also those that run templates.
    pub(super) show_templates: bool,
    /// The order.
    pub(super) order: Order,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) enum Order {
    /// By the time they were made, newest first.
    #[default]
    Newest,
    /// By the time they were made.
    Oldest,
    /// By the time of their last change, the last first.
    LastChanged,
    /// By the time of their last change.
    FirstChanged,
    /// By name.
    Name,
    /// By name, backwards.
    NameBackwards,
}

impl Order {
    /// Every order by the words for it.
    pub(super) const ALL: [(&str, Self); 6] = [
        ("create_time desc", Self::Newest),
        ("create_time", Self::Oldest),
        ("update_time desc", Self::LastChanged),
        ("update_time", Self::FirstChanged),
        ("name", Self::Name),
        ("name desc", Self::NameBackwards),
    ];

    /// The order that is asked for so, if there is such a one; nothing asks for the newest first.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<_> = text.split_whitespace().collect();
        if words.is_empty() {
            return Some(Self::default());
        }
        let asked = words.join(" ");
        let found = Self::ALL.into_iter().find(|(word, _)| *word == asked);
        found.map(|(_, order)| order)
    }

    /// The words for it.
    pub(super) fn as_str(self) -> &'static str {
        let found = Self::ALL.into_iter().find(|(_, order)| *order == self);
        found.map_or("", |(word, _)| word)
    }
}

/// Where a page ended, in any order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The last one.
    pub(super) id: WorkflowId,
    /// Its name.
    pub(super) name: String,
    /// When it had last changed.
    pub(super) updated_at: OffsetDateTime,
}

impl From<&Summary> for Cursor {
    fn from(workflow: &Summary) -> Self {
        Self {
            id: workflow.id,
            name: workflow.name.clone(),
            updated_at: workflow.updated_at,
        }
    }
}

/// Lists a studio's workflows.
pub(super) async fn list(app: &App, caller: &Caller, filter: &Filter, page: &Page<Cursor>) -> Result<Vec<Summary>> {
    let access = app.core.check_studio(caller.user, filter.studio).await?;
    let mut tx = TenantTx::begin(&app.pool, "workflows.list", &access.claims).await?;
    match filter.order {
        Order::Newest => list_store::newest(&mut tx, filter, page).await,
        _ => list_store::ordered(&mut tx, filter, page).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_one_of_those_that_there_are() {
        for (word, order) in Order::ALL {
            assert_eq!((Order::parse(word), order.as_str()), (Some(order), word));
        }
        assert_eq!(Order::parse(" name   desc "), Some(Order::NameBackwards));
        assert_eq!(Order::parse(""), Some(Order::Newest));
        for other in ["draft", "name asc", "name, id", "NAME", "desc"] {
            assert_eq!(Order::parse(other), None, "{other}");
        }
    }
}
