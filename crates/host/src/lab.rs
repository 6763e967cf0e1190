//! The laboratory behind the console. The host does not know it: whoever starts the host hands in what it says of
//! itself, and a function that draws a page. One page is drawn at a time, on a thread of its own.

use crate::http::{App, refuse, text};
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is asked of the laboratory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LabQuestion {
    /// One: it is run with `number` as its seed. Several: they are compared on so many seeds.
    pub algorithms: Vec<String>,
    /// How many nodes.
    pub nodes: usize,
    /// Faults by name, with commas between them.
    pub faults: String,
    /// The seed, or how many.
    pub number: u64,
}

/// The laboratory, as a host is handed it.
#[derive(Debug)]
pub struct Lab {
    /// What it says of itself.
    pub about: console::Laboratory,
    draw: fn(&LabQuestion) -> Result<String, String>,
    /// A page is being drawn.
    busy: AtomicBool,
}

impl Lab {
    /// `draw` draws a page; an error says what cannot be asked like this.
    pub fn new(
        about: console::Laboratory,
        draw: fn(&LabQuestion) -> Result<String, String>,
    ) -> Self {
        Self {
            about,
            draw,
            busy: AtomicBool::new(false),
        }
    }
}

/// Dropping it lets the next one in, however the drawing ended.
struct Busy(Arc<Lab>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// The paths.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/lab/run", get(run))
        .route("/lab/compare", get(compare))
}

#[derive(Deserialize)]
struct Run {
    algorithm: String,
    nodes: usize,
    faults: String,
    seed: u64,
}

async fn run(State(app): State<App>, Query(asked): Query<Run>) -> Response {
    let question = LabQuestion {
        algorithms: vec![asked.algorithm],
        nodes: asked.nodes,
        faults: asked.faults,
        number: asked.seed,
    };
    draw(&app, question).await
}

async fn compare(
    State(app): State<App>,
    Query(mut asked): Query<BTreeMap<String, String>>,
) -> Response {
    let mut take = |key: &str| asked.remove(key).unwrap_or_default();
    let (nodes, faults, seeds) = (take("nodes"), take("faults"), take("seeds"));
    let (Ok(nodes), Ok(number)) = (nodes.parse(), seeds.parse()) else {
        return refuse(StatusCode::BAD_REQUEST, "nodes and seeds are numbers");
    };
    let algorithms: Vec<String> = asked
        .into_values()
        .filter(|name| !name.is_empty())
        .collect();
    if algorithms.len() < 2 {
        return refuse(StatusCode::BAD_REQUEST, "name two algorithms or more");
    }
    let question = LabQuestion {
        algorithms,
        nodes,
        faults,
        number,
    };
    draw(&app, question).await
}

async fn draw(app: &App, question: LabQuestion) -> Response {
    let Some(lab) = app.config().lab.clone() else {
        return refuse(
            StatusCode::NOT_FOUND,
            "this node was started without the laboratory",
        );
    };
    if lab.busy.swap(true, Ordering::AcqRel) {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the laboratory runs something else; ask again in a moment",
        );
    }
    let busy = Busy(lab);
    let drawn = tokio::task::spawn_blocking(move || (busy.0.draw)(&question));
    match drawn.await {
        Ok(Ok(page)) => {
            let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
            (html, page).into_response()
        }
        Ok(Err(why)) => refuse(StatusCode::BAD_REQUEST, &why),
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the laboratory failed; the node's log says how\n",
        ),
    }
}
