//! The RPCs of `CompanyService`: companies with their branches, join codes, memberships and plans.

use std::sync::Arc;

use service_kit::{auth::Caller, db, error::Violations, ids::CompanyId, page::Page};
use studios_proto::core::{self as proto, company_service_server::CompanyService};
use tonic::{Request, Response, Status};

use super::{
    Cursor,
    branches::{self, BranchUpdate, NewBranch},
    explain, join_codes, memberships, plans,
};
use crate::App;

pub(super) const CREATE_COMPANY: &str = "/studios.core.v1.CompanyService/CreateCompany";
pub(super) const CREATE_BRANCH: &str = "/studios.core.v1.CompanyService/CreateBranch";
const LIST_COMPANIES: &str = "/studios.core.v1.CompanyService/ListCompanies";
const LIST_BRANCHES: &str = "/studios.core.v1.CompanyService/ListBranches";
const LIST_OWN_MEMBERSHIPS: &str = "/studios.core.v1.CompanyService/ListOwnMemberships";
const LIST_MEMBERSHIPS: &str = "/studios.core.v1.CompanyService/ListMemberships";

/// Serves `CompanyService`.
#[derive(Clone)]
pub struct Companies {
    app: Arc<App>,
}

impl Companies {
    /// Serves it from `app`.
    pub fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    async fn change_membership(
        &self,
        caller: &Caller,
        change: memberships::Change,
    ) -> Result<Response<proto::Membership>, Status> {
        let membership = db::retry("memberships.change", || memberships::change(&self.app, caller, &change)).await?;
        Ok(Response::new(membership.into()))
    }
}

#[tonic::async_trait]
impl CompanyService for Companies {
    async fn create_company(
        &self,
        request: Request<proto::CreateCompanyRequest>,
    ) -> Result<Response<proto::Company>, Status> {
        let caller = Caller::of(&request)?;
        let new = request.into_inner().try_into()?;
        let company = db::retry("companies.create", || super::create(&self.app, &caller, &new)).await?;
        Ok(Response::new(company.into()))
    }

    async fn get_company(
        &self,
        request: Request<proto::GetCompanyRequest>,
    ) -> Result<Response<proto::Company>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let company = db::retry("companies.get", || super::get(&self.app, &caller, id)).await?;
        Ok(Response::new(company.into()))
    }

    async fn list_companies(
        &self,
        request: Request<proto::ListCompaniesRequest>,
    ) -> Result<Response<proto::ListCompaniesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let page = Page::parse(keys, LIST_COMPANIES, &(), request.page_size, &request.page_token)?;
        let rows = db::retry("companies.list", || super::list(&self.app, &caller, &page)).await?;
        let (companies, next_page_token) = page.finish(keys, LIST_COMPANIES, &(), rows, |it| Cursor::from(it));
        let companies = companies.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListCompaniesResponse {
            companies,
            next_page_token,
        }))
    }

    async fn update_company(
        &self,
        request: Request<proto::UpdateCompanyRequest>,
    ) -> Result<Response<proto::Company>, Status> {
        let caller = Caller::of(&request)?;
        let update = request.into_inner().try_into()?;
        let company = db::retry("companies.update", || super::update(&self.app, &caller, &update)).await?;
        Ok(Response::new(company.into()))
    }

    async fn create_branch(
        &self,
        request: Request<proto::CreateBranchRequest>,
    ) -> Result<Response<proto::Branch>, Status> {
        let caller = Caller::of(&request)?;
        let new = NewBranch::try_from(request.into_inner())?;
        let branch = db::retry("branches.create", || branches::create(&self.app, &caller, &new)).await?;
        Ok(Response::new(branch.into()))
    }

    async fn get_branch(&self, request: Request<proto::GetBranchRequest>) -> Result<Response<proto::Branch>, Status> {
        let caller = Caller::of(&request)?;
        let id = Violations::only_id("id", &request.get_ref().id)?;
        let branch = db::retry("branches.get", || branches::get(&self.app, &caller, id)).await?;
        Ok(Response::new(branch.into()))
    }

    async fn list_branches(
        &self,
        request: Request<proto::ListBranchesRequest>,
    ) -> Result<Response<proto::ListBranchesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let company: CompanyId = Violations::only_id("company_id", &request.company_id)?;
        let page = Page::parse(keys, LIST_BRANCHES, &company, request.page_size, &request.page_token)?;
        let rows = db::retry("branches.list", || branches::list(&self.app, &caller, company, &page)).await?;
        let (branches, next_page_token) =
            page.finish(keys, LIST_BRANCHES, &company, rows, |it| branches::Cursor::from(it));
        let branches = branches.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListBranchesResponse {
            branches,
            next_page_token,
        }))
    }

    async fn update_branch(
        &self,
        request: Request<proto::UpdateBranchRequest>,
    ) -> Result<Response<proto::Branch>, Status> {
        let caller = Caller::of(&request)?;
        let update = BranchUpdate::try_from(request.into_inner())?;
        let branch = db::retry("branches.update", || branches::update(&self.app, &caller, &update)).await?;
        Ok(Response::new(branch.into()))
    }

    async fn delete_branch(
        &self,
        request: Request<proto::DeleteBranchRequest>,
    ) -> Result<Response<proto::DeleteBranchResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.get_ref();
        let id = Violations::only_id("id", &request.id)?;
        db::retry("branches.delete", || {
            branches::delete(&self.app, &caller, id, &request.etag)
        })
        .await?;
        Ok(Response::new(proto::DeleteBranchResponse {}))
    }

    async fn get_join_code(
        &self,
        request: Request<proto::GetJoinCodeRequest>,
    ) -> Result<Response<proto::JoinCode>, Status> {
        let caller = Caller::of(&request)?;
        let company = Violations::only_id("company_id", &request.get_ref().company_id)?;
        let code = db::retry("join_codes.get", || join_codes::get(&self.app, &caller, company)).await?;
        Ok(Response::new(code.into()))
    }

    async fn rotate_join_code(
        &self,
        request: Request<proto::RotateJoinCodeRequest>,
    ) -> Result<Response<proto::JoinCode>, Status> {
        let caller = Caller::of(&request)?;
        let company = Violations::only_id("company_id", &request.get_ref().company_id)?;
        let code = db::retry("join_codes.rotate", || join_codes::rotate(&self.app, &caller, company)).await?;
        Ok(Response::new(code.into()))
    }

    async fn delete_join_code(
        &self,
        request: Request<proto::DeleteJoinCodeRequest>,
    ) -> Result<Response<proto::DeleteJoinCodeResponse>, Status> {
        let caller = Caller::of(&request)?;
        let company = Violations::only_id("company_id", &request.get_ref().company_id)?;
        db::retry("join_codes.delete", || join_codes::delete(&self.app, &caller, company)).await?;
        Ok(Response::new(proto::DeleteJoinCodeResponse {}))
    }

    async fn join_company(
        &self,
        request: Request<proto::JoinCompanyRequest>,
    ) -> Result<Response<proto::Membership>, Status> {
        let caller = Caller::of(&request)?;
        let code = join_codes::convert::code(request.get_ref())?;
        let membership = db::retry("join_codes.join", || join_codes::join(&self.app, &caller, &code)).await?;
        Ok(Response::new(membership.into()))
    }

    async fn list_own_memberships(
        &self,
        request: Request<proto::ListOwnMembershipsRequest>,
    ) -> Result<Response<proto::ListOwnMembershipsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let page = Page::parse(keys, LIST_OWN_MEMBERSHIPS, &(), request.page_size, &request.page_token)?;
        let rows = db::retry("memberships.list_own", || {
            memberships::list_own(&self.app, &caller, &page)
        })
        .await?;
        let (memberships, next_page_token) = page.finish(keys, LIST_OWN_MEMBERSHIPS, &(), rows, |it| it.id);
        let memberships = memberships.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListOwnMembershipsResponse {
            memberships,
            next_page_token,
        }))
    }

    async fn approve_membership(
        &self,
        request: Request<proto::ApproveMembershipRequest>,
    ) -> Result<Response<proto::Membership>, Status> {
        let caller = Caller::of(&request)?;
        self.change_membership(&caller, request.into_inner().try_into()?).await
    }

    async fn reject_membership(
        &self,
        request: Request<proto::RejectMembershipRequest>,
    ) -> Result<Response<proto::Membership>, Status> {
        let caller = Caller::of(&request)?;
        self.change_membership(&caller, request.into_inner().try_into()?).await
    }

    async fn update_membership(
        &self,
        request: Request<proto::UpdateMembershipRequest>,
    ) -> Result<Response<proto::Membership>, Status> {
        let caller = Caller::of(&request)?;
        self.change_membership(&caller, request.into_inner().try_into()?).await
    }

    async fn remove_membership(
        &self,
        request: Request<proto::RemoveMembershipRequest>,
    ) -> Result<Response<proto::Membership>, Status> {
        let caller = Caller::of(&request)?;
        self.change_membership(&caller, request.into_inner().try_into()?).await
    }

    async fn list_memberships(
        &self,
        request: Request<proto::ListMembershipsRequest>,
    ) -> Result<Response<proto::ListMembershipsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let (request, keys) = (request.get_ref(), &self.app.keys);
        let filter = memberships::Filter::try_from(request)?;
        let page = Page::parse(keys, LIST_MEMBERSHIPS, &filter, request.page_size, &request.page_token)?;
        let rows = db::retry("memberships.list", || {
            memberships::list(&self.app, &caller, &filter, &page)
        })
        .await?;
        let (memberships, next_page_token) = page.finish(keys, LIST_MEMBERSHIPS, &filter, rows, |it| it.id);
        let memberships = memberships.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListMembershipsResponse {
            memberships,
            next_page_token,
        }))
    }

    async fn explain_access(
        &self,
        request: Request<proto::ExplainAccessRequest>,
    ) -> Result<Response<proto::ExplainAccessResponse>, Status> {
        let caller = Caller::of(&request)?;
        let question = explain::Question::try_from(request.get_ref())?;
        let steps = db::retry("companies.explain", || explain::explain(&self.app, &caller, &question)).await?;
        Ok(Response::new(explain::convert::answer(steps)))
    }

    async fn list_plans(
        &self,
        request: Request<proto::ListPlansRequest>,
    ) -> Result<Response<proto::ListPlansResponse>, Status> {
        let caller = Caller::of(&request)?;
        let plans = db::retry("plans.list", || plans::list(&self.app, &caller)).await?;
        let plans = plans.into_iter().map(Into::into).collect();
        Ok(Response::new(proto::ListPlansResponse { plans }))
    }
}
