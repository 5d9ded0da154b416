//! Branches as the contract writes them.

use std::ops::RangeInclusive;

use service_kit::{
    error::{Error, Result, Violations},
    update,
};
use studios_proto::core as proto;

use super::{Branch, BranchUpdate, Change, Details, NewBranch};
use crate::{
    companies::api::CREATE_BRANCH,
    contact::{Email, Phone},
    requests,
};

const NAME: RangeInclusive<usize> = 2..=100;
const ADDRESS: RangeInclusive<usize> = 10..=500;
const CHANGEABLE: &[&str] = &["name", "address", "contact_email", "contact_phone"];

impl TryFrom<proto::CreateBranchRequest> for NewBranch {
    type Error = Error;

    fn try_from(request: proto::CreateBranchRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let key = requests::Key::read(&mut violations, CREATE_BRANCH, &request.request_id, &request);
        let given = request.branch.unwrap_or_default();
        let company = violations.id("branch.company_id", &given.company_id);
        let name = name(&mut violations, &given);
        let address = address(&mut violations, &given);
        let contact_email = contact_email(&mut violations, &given);
        let contact_phone = contact_phone(&mut violations, &given);
        violations.finish()?;
        Ok(Self {
            company: company.expect("a missing one is a violation"),
            details: Details {
                name: name.expect("a missing one is a violation"),
                address: address.expect("a missing one is a violation"),
                contact_email,
                contact_phone,
            },
            key,
        })
    }
}

impl TryFrom<proto::UpdateBranchRequest> for BranchUpdate {
    type Error = Error;

    fn try_from(request: proto::UpdateBranchRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let given = request.branch.unwrap_or_default();
        let id = violations.id("branch.id", &given.id);
        let set = [
            ("name", !given.name.is_empty()),
            ("address", !given.address.is_empty()),
            ("contact_email", given.contact_email.is_some()),
            ("contact_phone", given.contact_phone.is_some()),
        ];
        let set: Vec<_> = set
            .into_iter()
            .filter_map(|(path, is_set)| is_set.then_some(path))
            .collect();
        let paths = violations.include(update::paths(request.update_mask.as_ref(), CHANGEABLE, &set))?;
        let mut changes = Vec::new();
        for path in paths.unwrap_or_default() {
            changes.extend(match path {
                "name" => name(&mut violations, &given).map(Change::Name),
                "address" => address(&mut violations, &given).map(Change::Address),
                "contact_email" => Some(Change::ContactEmail(contact_email(&mut violations, &given))),
                "contact_phone" => Some(Change::ContactPhone(contact_phone(&mut violations, &given))),
                _ => None,
            });
        }
        violations.finish()?;
        Ok(Self {
            id: id.expect("a missing one is a violation"),
            etag: given.etag,
            changes,
        })
    }
}

fn name(violations: &mut Violations, given: &proto::Branch) -> Option<String> {
    violations.text("branch.name", &given.name, NAME)
}

fn address(violations: &mut Violations, given: &proto::Branch) -> Option<String> {
    violations.text("branch.address", &given.address, ADDRESS)
}

fn contact_email(violations: &mut Violations, given: &proto::Branch) -> Option<Email> {
    given
        .contact_email
        .as_ref()
        .and_then(|it| Email::read(violations, "branch.contact_email", it))
}

fn contact_phone(violations: &mut Violations, given: &proto::Branch) -> Option<Phone> {
    given
        .contact_phone
        .as_ref()
        .and_then(|it| Phone::read(violations, "branch.contact_phone", it))
}

impl From<Branch> for proto::Branch {
    fn from(branch: Branch) -> Self {
        let details = branch.details;
        Self {
            id: branch.id.to_string(),
            company_id: branch.company.to_string(),
            name: details.name,
            address: details.address,
            contact_email: details.contact_email.map(Into::into),
            contact_phone: details.contact_phone.map(Into::into),
            create_time: Some(update::timestamp(branch.created_at)),
            update_time: Some(update::timestamp(branch.updated_at)),
            etag: update::etag(branch.revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::CompanyId;

    use super::*;

    fn create(branch: proto::Branch) -> Result<NewBranch> {
        proto::CreateBranchRequest {
            branch: Some(branch),
            request_id: String::new(),
        }
        .try_into()
    }

    #[test]
    fn a_branch_needs_no_contact() {
        let branch = proto::Branch {
            company_id: CompanyId::generate().to_string(),
            name: "HQ".into(),
            address: "1 Main Street".into(),
            ..Default::default()
        };
        let new = create(branch).unwrap();
        assert_eq!((new.details.contact_email, new.details.contact_phone), (None, None));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = proto::Branch {
            company_id: "acme".into(),
            name: "H".into(),
            address: "here".into(),
            contact_email: Some(String::new()),
            contact_phone: Some("911".into()),
            ..Default::default()
        };
        let Err(Error::Invalid(violations)) = create(wrong) else {
            panic!("refused")
        };
        let fields: Vec<_> = violations.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "branch.company_id",
                "branch.name",
                "branch.address",
                "branch.contact_email",
                "branch.contact_phone",
            ]
        );
    }

    #[test]
    fn an_update_takes_away_the_named_contact_that_is_absent() {
        let request = proto::UpdateBranchRequest {
            branch: Some(proto::Branch {
                id: service_kit::ids::BranchId::generate().to_string(),
                ..Default::default()
            }),
            update_mask: Some(prost_types::FieldMask {
                paths: vec!["contact_phone".into(), "contact_email".into()],
            }),
        };
        let read = BranchUpdate::try_from(request).unwrap();
        assert!(matches!(
            &read.changes[..],
            [Change::ContactEmail(None), Change::ContactPhone(None)]
        ));
    }
}
