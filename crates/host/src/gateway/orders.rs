//! What the console's port answers about the gateway: `/v1/gateway`.

use crate::http::{App, Shared, read_order, refuse};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use node::AdminReply;
use serde::Deserialize;
use traffic::report::GatewayReport;

const NO_GATEWAY: &str =
    "this node has no gateway: name a file of routes as `gateway.routes` in its configuration";

/// The paths.
pub fn routes() -> Router<App> {
    Router::new().route("/v1/gateway", get(report).post(order))
}

/// What the node's gateway tells, if there is one.
pub async fn report_of(app: &Shared) -> Option<GatewayReport> {
    app.config().gateway.as_ref()?.report().await
}

async fn report(State(app): State<App>) -> Response {
    match report_of(&app).await {
        Some(report) => axum::Json(report).into_response(),
        None => refuse(StatusCode::NOT_FOUND, NO_GATEWAY),
    }
}

#[derive(Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
enum Order {
    Reload,
    Purge {
        #[serde(default)]
        route: String,
        #[serde(default)]
        path: String,
    },
}

async fn order(State(app): State<App>, headers: HeaderMap, body: String) -> Response {
    let order = match read_order(&headers, &body) {
        Ok(order) => order,
        Err(refusal) => return *refusal,
    };
    let Some(gateway) = &app.config().gateway else {
        return refuse(StatusCode::NOT_FOUND, NO_GATEWAY);
    };
    let done = match order {
        Order::Reload => gateway.reload().await,
        Order::Purge { route, path } => (gateway.purge(route, path).await)
            .map(|count| format!("{count} kept answers are forgotten"))
            .ok_or_else(|| "the gateway has ended".to_owned()),
    };
    match done {
        Ok(message) => axum::Json(AdminReply::Done { message }).into_response(),
        Err(message) => {
            let refused = AdminReply::Refused { message };
            (StatusCode::CONFLICT, axum::Json(refused)).into_response()
        }
    }
}
