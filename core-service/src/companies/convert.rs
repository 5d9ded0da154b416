//! Companies as the contract writes them.

use std::ops::RangeInclusive;

use service_kit::{
    error::{Error, Result, Violations},
    update,
};
use studios_proto::core as proto;

use super::{Change, Company, CompanyUpdate, Details, Industry, NewCompany, Subscription, api::CREATE_COMPANY};
use crate::{
    contact::{Email, Phone},
    requests,
};

const NAME: RangeInclusive<usize> = 3..=100;
const ADDRESS: RangeInclusive<usize> = 10..=500;
const CHANGEABLE: &[&str] = &[
    "name",
    "industry_type",
    "contact_email",
    "contact_phone",
    "headquarters_address",
];

impl TryFrom<proto::CreateCompanyRequest> for NewCompany {
    type Error = Error;

    fn try_from(request: proto::CreateCompanyRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let key = requests::Key::read(&mut violations, CREATE_COMPANY, &request.request_id, &request);
        let given = request.company.unwrap_or_default();
        let name = name(&mut violations, &given);
        let industry = industry(&mut violations, &given);
        let contact_email = contact_email(&mut violations, &given);
        let contact_phone = contact_phone(&mut violations, &given);
        let headquarters_address = headquarters_address(&mut violations, &given);
        violations.finish()?;
        Ok(Self {
            details: Details {
                name: name.expect("a missing one is a violation"),
                industry: industry.expect("a missing one is a violation"),
                contact_email: contact_email.expect("a missing one is a violation"),
                contact_phone,
                headquarters_address: headquarters_address.expect("a missing one is a violation"),
            },
            key,
        })
    }
}

impl TryFrom<proto::UpdateCompanyRequest> for CompanyUpdate {
    type Error = Error;

    fn try_from(request: proto::UpdateCompanyRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let given = request.company.unwrap_or_default();
        let id = violations.id("company.id", &given.id);
        let set = [
            ("name", !given.name.is_empty()),
            ("industry_type", given.industry_type != 0),
            ("contact_email", !given.contact_email.is_empty()),
            ("contact_phone", given.contact_phone.is_some()),
            ("headquarters_address", !given.headquarters_address.is_empty()),
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
                "industry_type" => industry(&mut violations, &given).map(Change::Industry),
                "contact_email" => contact_email(&mut violations, &given).map(Change::ContactEmail),
                "contact_phone" => Some(Change::ContactPhone(contact_phone(&mut violations, &given))),
                "headquarters_address" => {
                    headquarters_address(&mut violations, &given).map(Change::HeadquartersAddress)
                }
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

fn name(violations: &mut Violations, given: &proto::Company) -> Option<String> {
    violations.text("company.name", &given.name, NAME)
}

fn industry(violations: &mut Violations, given: &proto::Company) -> Option<Industry> {
    let industry = proto::IndustryType::try_from(given.industry_type).ok().and_then(known);
    if industry.is_none() {
        violations.add("company.industry_type", "must be one of the industry types");
    }
    industry
}

fn known(industry: proto::IndustryType) -> Option<Industry> {
    Some(match industry {
        proto::IndustryType::Unspecified => return None,
        proto::IndustryType::Technology => Industry::Technology,
        proto::IndustryType::Healthcare => Industry::Healthcare,
        proto::IndustryType::Finance => Industry::Finance,
        proto::IndustryType::Retail => Industry::Retail,
        proto::IndustryType::Manufacturing => Industry::Manufacturing,
        proto::IndustryType::Education => Industry::Education,
        proto::IndustryType::Consulting => Industry::Consulting,
        proto::IndustryType::Other => Industry::Other,
    })
}

fn contact_email(violations: &mut Violations, given: &proto::Company) -> Option<Email> {
    Email::read(violations, "company.contact_email", &given.contact_email)
}

fn contact_phone(violations: &mut Violations, given: &proto::Company) -> Option<Phone> {
    given
        .contact_phone
        .as_ref()
        .and_then(|it| Phone::read(violations, "company.contact_phone", it))
}

fn headquarters_address(violations: &mut Violations, given: &proto::Company) -> Option<String> {
    violations.text("company.headquarters_address", &given.headquarters_address, ADDRESS)
}

impl From<Industry> for proto::IndustryType {
    fn from(industry: Industry) -> Self {
        match industry {
            Industry::Technology => Self::Technology,
            Industry::Healthcare => Self::Healthcare,
            Industry::Finance => Self::Finance,
            Industry::Retail => Self::Retail,
            Industry::Manufacturing => Self::Manufacturing,
            Industry::Education => Self::Education,
            Industry::Consulting => Self::Consulting,
            Industry::Other => Self::Other,
        }
    }
}

impl From<Company> for proto::Company {
    fn from(company: Company) -> Self {
        let details = company.details;
        Self {
            id: company.id.to_string(),
            name: details.name,
            industry_type: proto::IndustryType::from(details.industry).into(),
            contact_email: details.contact_email.into(),
            contact_phone: details.contact_phone.map(Into::into),
            headquarters_address: details.headquarters_address,
            plan: company.plan,
            created_by: company.created_by.to_string(),
            create_time: Some(update::timestamp(company.created_at)),
            update_time: Some(update::timestamp(company.updated_at)),
            etag: update::etag(company.revision),
            subscription: Some(company.subscription.into()),
        }
    }
}

impl From<Subscription> for proto::Subscription {
    fn from(subscription: Subscription) -> Self {
        Self {
            status: proto::SubscriptionStatus::from(subscription.status).into(),
            period_start_time: subscription.period_start.map(update::timestamp),
            period_end_time: subscription.period_end.map(update::timestamp),
            renews: subscription.renews,
            suspended: subscription.suspended_at.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_types::FieldMask;
    use service_kit::ids::CompanyId;

    use super::*;

    fn acme() -> proto::Company {
        proto::Company {
            id: CompanyId::generate().to_string(),
            name: "Acme".into(),
            industry_type: proto::IndustryType::Retail.into(),
            contact_email: "Hello@Acme.example".into(),
            contact_phone: Some("+14155550100".into()),
            headquarters_address: "1 Main Street, Springfield".into(),
            ..Default::default()
        }
    }

    fn create(company: proto::Company) -> Result<NewCompany> {
        proto::CreateCompanyRequest {
            company: Some(company),
            request_id: String::new(),
        }
        .try_into()
    }

    fn update(company: proto::Company, mask: &[&str]) -> Result<CompanyUpdate> {
        let paths = mask.iter().map(ToString::to_string).collect();
        proto::UpdateCompanyRequest {
            company: Some(company),
            update_mask: Some(FieldMask { paths }),
        }
        .try_into()
    }

    fn refused<T: std::fmt::Debug>(result: Result<T>) -> Vec<String> {
        match result {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|it| it.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_company_is_read_with_its_address_folded() {
        let new = create(acme()).unwrap();
        assert_eq!(new.details.contact_email.as_str(), "hello@acme.example");
        assert_eq!(new.details.industry, Industry::Retail);
        assert!(new.key.is_none());
    }

    #[test]
    fn every_wrong_field_is_named() {
        let wrong = proto::Company {
            name: "Ac".into(),
            industry_type: 99,
            contact_email: "nobody".into(),
            contact_phone: Some("0800".into()),
            headquarters_address: "here".into(),
            ..Default::default()
        };
        let fields = [
            "name",
            "industry_type",
            "contact_email",
            "contact_phone",
            "headquarters_address",
        ];
        assert_eq!(refused(create(wrong)), fields.map(|it| format!("company.{it}")));
        assert_eq!(
            refused(create(proto::Company::default())).len(),
            4,
            "the phone may be absent"
        );
        assert_eq!(
            refused(update(proto::Company::default(), &["plan"])),
            ["company.id", "update_mask"]
        );
    }

    #[test]
    fn a_named_phone_that_is_absent_is_taken_away() {
        let without = proto::Company {
            contact_phone: None,
            ..acme()
        };
        let read = update(without.clone(), &["contact_phone"]).unwrap();
        assert!(matches!(&read.changes[..], [Change::ContactPhone(None)]));
        assert_eq!(
            update(without, &[]).unwrap().changes.len(),
            4,
            "without a mask it stays"
        );
    }

    #[test]
    fn an_update_changes_what_it_names_and_nothing_else() {
        let mut details = create(acme()).unwrap().details;
        let before = details.clone();
        let renamed = proto::Company {
            name: "Acme & Sons".into(),
            ..acme()
        };
        for change in update(renamed, &["name"]).unwrap().changes {
            details.apply(change);
        }
        assert_eq!(details.name, "Acme & Sons");
        assert_eq!(
            Details {
                name: before.name.clone(),
                ..details
            },
            before
        );
    }
}
