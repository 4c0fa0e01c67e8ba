//! The lists that remain when a user's own cannot be made, best first: the list made last, what is popular, the list
//! that came with the deployment. Each is filtered by the request like a live one.

use crate::abi::{List, ListRequest, ModelInfo, Recommended};
use crate::users::LastList;
use nearfield_engine::limits::COUNT_MAX;
use nearfield_engine::{Lineage, Model, Request, Row, Scenario, UserState, Workspace};
use std::collections::HashSet;

/// What a list was made from, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The user's state.
    Live,
    /// The list that was made last for the user.
    Last,
    /// What is popular in the site and the scenario.
    Popular,
    /// The list that came with the deployment.
    BuiltIn,
}

impl Rung {
    /// Returns its name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Last => "last",
            Self::Popular => "popular",
            Self::BuiltIn => "built_in",
        }
    }
}

/// A list as it is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendations {
    /// What it was made from.
    pub rung: Rung,
    /// The model that knows its items; none for the list of the deployment.
    pub model: Option<ModelInfo>,
    /// Best first.
    pub items: Vec<Recommended>,
}

impl Recommendations {
    /// Returns a live list.
    pub fn live(list: List) -> Self {
        Self { rung: Rung::Live, model: Some(list.model), items: list.items }
    }
}

/// Items and popular lists of a model, which the host can read without the guest.
#[derive(Debug)]
pub struct Catalogue {
    info: ModelInfo,
    ids: Vec<Box<str>>,
    withdrawn: HashSet<Row>,
    popular: Vec<(Scenario, Vec<Row>)>,
}

impl Catalogue {
    /// Reads a model.
    pub fn new(model: &Model) -> Self {
        let info = ModelInfo { lineage: model.lineage(), version: model.version(), rows: model.len() as u32 };
        let rows = 0..model.len() as Row;
        let mut workspace = Workspace::new();
        let mut popular = |scenario| {
            let request = Request { count: COUNT_MAX, scenario, ..Request::default() };
            let list = UserState::new().recommend(model, &request, &mut workspace);
            (scenario, list.into_iter().map(|item| item.row).collect())
        };
        Self {
            info,
            popular: vec![popular(Scenario::Discover), popular(Scenario::Continue)],
            ids: rows.clone().map(|row| model.item_id(row).into()).collect(),
            withdrawn: rows.filter(|row| model.is_withdrawn(*row)).collect(),
        }
    }

    /// Returns the list made last, if its rows are this model's and the request leaves any of them.
    pub fn last(&self, last: &LastList, request: &ListRequest) -> Option<Recommendations> {
        let lineage: Lineage = last.lineage;
        let list = (lineage == self.info.lineage).then(|| self.list(Rung::Last, &last.rows, request))?;
        (!list.items.is_empty()).then_some(list)
    }

    /// Returns what is popular in the request's scenario.
    pub fn popular(&self, request: &ListRequest) -> Recommendations {
        let rows = self.popular.iter().find(|(scenario, _)| *scenario == request.scenario);
        self.list(Rung::Popular, rows.map_or(&[], |(_, rows)| rows), request)
    }

    fn list(&self, rung: Rung, rows: &[Row], request: &ListRequest) -> Recommendations {
        let known = rows.iter().filter(|row| !self.withdrawn.contains(row));
        let known = known.filter_map(|row| Some((*row, self.ids.get(*row as usize)?.as_ref())));
        Recommendations { rung, model: Some(self.info), items: chosen(known, request) }
    }
}

/// The list that came with the deployment.
#[derive(Clone, Debug, Default)]
pub struct BuiltIn(Vec<String>);

impl BuiltIn {
    /// Returns the list of these items, best first.
    pub fn new(item_ids: Vec<String>) -> Self {
        Self(item_ids)
    }

    /// Reads a list from text: an item id a line, best first.
    pub fn from_lines(text: &str) -> Self {
        Self(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// Returns the list, if there is one.
    pub fn list(&self, request: &ListRequest) -> Option<Recommendations> {
        if self.0.is_empty() {
            return None;
        }
        let items = chosen(self.0.iter().map(|id| (Row::MAX, id.as_str())), request);
        Some(Recommendations { rung: Rung::BuiltIn, model: None, items })
    }
}

/// Returns the items that a request leaves, with falling scores: the share of the list that they stand before.
fn chosen<'a>(items: impl Iterator<Item = (Row, &'a str)>, request: &ListRequest) -> Vec<Recommended> {
    let allow: Option<HashSet<&str>> =
        request.allow.as_ref().map(|ids| ids.iter().map(String::as_str).collect());
    let deny: HashSet<&str> = request.deny.iter().map(String::as_str).collect();
    let count = request.count.min(COUNT_MAX) as usize;
    items
        .filter(|(_, id)| allow.as_ref().is_none_or(|allow| allow.contains(id)) && !deny.contains(id))
        .take(count)
        .enumerate()
        .map(|(index, (row, id))| Recommended {
            row,
            item_id: id.to_owned(),
            score: 1.0 - index as f32 / count as f32,
            reasons: Vec::new(),
        })
        .collect()
}
