//! Studios as the contract writes them.

use std::ops::RangeInclusive;

use service_kit::{
    error::{Error, Result, Violations},
    ids::BranchId,
    update,
};
use studios_proto::core as proto;

use super::{BusinessArea, Change, Details, Filter, NewStudio, Studio, StudioUpdate, api::CREATE_STUDIO};
use crate::requests;

const NAME: RangeInclusive<usize> = 3..=100;
const DESCRIPTION: RangeInclusive<usize> = 0..=1000;
const CHANGEABLE: &[&str] = &["name", "description", "business_area", "branch_id"];

impl TryFrom<proto::CreateStudioRequest> for NewStudio {
    type Error = Error;

    fn try_from(request: proto::CreateStudioRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let key = requests::Key::read(&mut violations, CREATE_STUDIO, &request.request_id, &request);
        let given = request.studio.unwrap_or_default();
        let company = violations.id("studio.company_id", &given.company_id);
        let branch = branch(&mut violations, &given);
        let name = name(&mut violations, &given);
        let description = description(&mut violations, &given);
        let area = area(&mut violations, &given);
        violations.finish()?;
        Ok(Self {
            company: company.expect("a missing one is a violation"),
            details: Details {
                branch,
                name: name.expect("a missing one is a violation"),
                description: description.expect("a missing one is a violation"),
                area: area.expect("a missing one is a violation"),
            },
            key,
        })
    }
}

impl TryFrom<proto::UpdateStudioRequest> for StudioUpdate {
    type Error = Error;

    fn try_from(request: proto::UpdateStudioRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let given = request.studio.unwrap_or_default();
        let id = violations.id("studio.id", &given.id);
        let set = [
            ("name", !given.name.is_empty()),
            ("description", !given.description.is_empty()),
            ("business_area", given.business_area != 0),
            ("branch_id", given.branch_id.is_some()),
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
                "description" => description(&mut violations, &given).map(Change::Description),
                "business_area" => area(&mut violations, &given).map(Change::Area),
                "branch_id" => Some(Change::Branch(branch(&mut violations, &given))),
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

impl TryFrom<&proto::ListStudiosRequest> for Filter {
    type Error = Error;

    fn try_from(request: &proto::ListStudiosRequest) -> Result<Self> {
        let mut violations = Violations::new();
        let company = violations.optional_id("company_id", &request.company_id);
        let branch = violations.optional_id("branch_id", &request.branch_id);
        let area = proto::BusinessArea::try_from(request.business_area);
        if area.is_err() {
            violations.add("business_area", "must be one of the business areas");
        }
        violations.finish()?;
        Ok(Self {
            company,
            branch,
            area: area.ok().and_then(known),
            show_deleted: request.show_deleted,
        })
    }
}

fn branch(violations: &mut Violations, given: &proto::Studio) -> Option<BranchId> {
    violations.optional_id("studio.branch_id", given.branch_id.as_deref().unwrap_or_default())
}

fn name(violations: &mut Violations, given: &proto::Studio) -> Option<String> {
    violations.text("studio.name", &given.name, NAME)
}

fn description(violations: &mut Violations, given: &proto::Studio) -> Option<String> {
    violations.text("studio.description", &given.description, DESCRIPTION)
}

fn area(violations: &mut Violations, given: &proto::Studio) -> Option<BusinessArea> {
    let area = proto::BusinessArea::try_from(given.business_area).ok().and_then(known);
    if area.is_none() {
        violations.add("studio.business_area", "must be one of the business areas");
    }
    area
}

fn known(area: proto::BusinessArea) -> Option<BusinessArea> {
    Some(match area {
        proto::BusinessArea::Unspecified => return None,
        proto::BusinessArea::Marketing => BusinessArea::Marketing,
        proto::BusinessArea::Sales => BusinessArea::Sales,
        proto::BusinessArea::Operations => BusinessArea::Operations,
        proto::BusinessArea::CustomerSupport => BusinessArea::CustomerSupport,
        proto::BusinessArea::Finance => BusinessArea::Finance,
        proto::BusinessArea::Hr => BusinessArea::Hr,
        proto::BusinessArea::Other => BusinessArea::Other,
    })
}

impl From<BusinessArea> for proto::BusinessArea {
    fn from(area: BusinessArea) -> Self {
        match area {
            BusinessArea::Marketing => Self::Marketing,
            BusinessArea::Sales => Self::Sales,
            BusinessArea::Operations => Self::Operations,
            BusinessArea::CustomerSupport => Self::CustomerSupport,
            BusinessArea::Finance => Self::Finance,
            BusinessArea::Hr => Self::Hr,
            BusinessArea::Other => Self::Other,
        }
    }
}

impl From<Studio> for proto::Studio {
    fn from(studio: Studio) -> Self {
        let details = studio.details;
        Self {
            id: studio.id.to_string(),
            company_id: studio.company.to_string(),
            branch_id: details.branch.map(|it| it.to_string()),
            name: details.name,
            description: details.description,
            business_area: proto::BusinessArea::from(details.area).into(),
            created_by: studio.created_by.to_string(),
            create_time: Some(update::timestamp(studio.created_at)),
            update_time: Some(update::timestamp(studio.updated_at)),
            delete_time: studio.deleted_at.map(update::timestamp),
            etag: update::etag(studio.revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use service_kit::ids::{CompanyId, StudioId};

    use super::*;

    fn studio() -> proto::Studio {
        proto::Studio {
            id: StudioId::generate().to_string(),
            company_id: CompanyId::generate().to_string(),
            name: "Campaigns".into(),
            business_area: proto::BusinessArea::Marketing.into(),
            ..Default::default()
        }
    }

    fn create(studio: proto::Studio) -> Result<NewStudio> {
        proto::CreateStudioRequest {
            studio: Some(studio),
            request_id: "not a UUID".into(),
        }
        .try_into()
    }

    fn update(studio: proto::Studio, mask: &[&str]) -> Result<StudioUpdate> {
        proto::UpdateStudioRequest {
            studio: Some(studio),
            update_mask: Some(prost_types::FieldMask {
                paths: mask.iter().map(ToString::to_string).collect(),
            }),
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
    fn every_wrong_field_is_named() {
        let wrong = proto::Studio {
            company_id: "acme".into(),
            branch_id: Some("hq".into()),
            name: "ab".into(),
            description: "x".repeat(1001),
            business_area: 99,
            ..Default::default()
        };
        let fields = [
            "request_id",
            "studio.company_id",
            "studio.branch_id",
            "studio.name",
            "studio.description",
        ];
        assert_eq!(
            refused(create(wrong)),
            [&fields[..], &["studio.business_area"]].concat()
        );
        let filter = proto::ListStudiosRequest {
            company_id: "x".into(),
            branch_id: "x".into(),
            business_area: -1,
            ..Default::default()
        };
        assert_eq!(
            refused(Filter::try_from(&filter)),
            ["company_id", "branch_id", "business_area"]
        );
    }

    #[test]
    fn a_studio_leaves_its_branch_when_the_mask_says_so() {
        let read = update(studio(), &["branch_id"]).unwrap();
        assert!(matches!(&read.changes[..], [Change::Branch(None)]));
        assert!(
            !update(studio(), &[])
                .unwrap()
                .changes
                .iter()
                .any(|it| matches!(it, Change::Branch(_)))
        );
    }

    #[test]
    fn a_description_can_be_emptied_by_naming_it() {
        let read = update(studio(), &["description"]).unwrap();
        assert!(matches!(&read.changes[..], [Change::Description(text)] if text.is_empty()));
    }
}
