//! Paths and methods, and what each does: one table, which the OpenAPI file is checked against.

use protocol::vmm_api::{ApiError, Counters, VmInfo};
use serde::Serialize;

use super::http::Response;
use crate::run::ControlError;

/// The machine, as the API sees it.
pub(crate) trait Target {
    /// What it is doing.
    fn info(&self) -> VmInfo;
    /// What it has done.
    fn counters(&self) -> Counters;
    /// Stops processors and devices.
    fn pause(&mut self) -> Result<(), ControlError>;
    /// Lets them go on.
    fn resume(&mut self) -> Result<(), ControlError>;
    /// Presses the power button: the guest decides what follows.
    fn power_button(&mut self) -> Result<(), ControlError>;
    /// Ends the machine at once.
    fn kill(&mut self) -> Result<(), ControlError>;
}

/// What a path does.
#[derive(Clone, Copy)]
enum Call {
    Read(fn(&dyn Target) -> Response),
    Change(fn(&mut dyn Target) -> Result<(), ControlError>),
}

impl Call {
    fn method(self) -> &'static str {
        match self {
            Self::Read(_) => "GET",
            Self::Change(_) => "PUT",
        }
    }
}

const ROUTES: [(&str, Call); 6] = [
    ("/vm", Call::Read(|target| json(200, &target.info()))),
    (
        "/vm/counters",
        Call::Read(|target| json(200, &target.counters())),
    ),
    ("/vm/pause", Call::Change(|target| target.pause())),
    ("/vm/resume", Call::Change(|target| target.resume())),
    (
        "/vm/power-button",
        Call::Change(|target| target.power_button()),
    ),
    ("/vm/kill", Call::Change(|target| target.kill())),
];

/// Carries out a request.
pub(super) fn answer(method: &str, path: &str, target: &mut dyn Target) -> Response {
    let route = ROUTES.iter().find(|(route, _)| *route == path);
    let Some((_, call)) = route else {
        return error(404, format!("no such path: {path}"));
    };
    if method != call.method() {
        let allow = Some(call.method().to_owned());
        let response = error(405, format!("{path} has no method {method}"));
        return Response { allow, ..response };
    }
    match call {
        Call::Read(read) => read(target),
        Call::Change(change) => match change(target) {
            Ok(()) => Response {
                status: 204,
                allow: None,
                body: None,
            },
            Err(refusal) => error(status(&refusal), refusal.to_string()),
        },
    }
}

fn status(refusal: &ControlError) -> u16 {
    match refusal {
        ControlError::Ending => 409,
        ControlError::Busy | ControlError::DeviceBusy => 503,
    }
}

/// A failure, as every call tells it.
pub(super) fn error(status: u16, error: String) -> Response {
    json(status, &ApiError { error })
}

fn json<T: Serialize>(status: u16, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => Response {
            status,
            allow: None,
            body: Some(body),
        },
        Err(_) => Response {
            status: 500,
            allow: None,
            body: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::Mock;

    #[test]
    fn every_route_answers_and_other_methods_do_not() {
        for (path, call) in ROUTES {
            let expected = match call {
                Call::Read(_) => 200,
                Call::Change(_) => 204,
            };
            assert_eq!(
                answer(call.method(), path, &mut Mock::default()).status,
                expected,
                "{path}"
            );
            for method in ["GET", "PUT", "POST", "DELETE", "HEAD", "get"] {
                if method != call.method() {
                    let mut mock = Mock::default();
                    let response = answer(method, path, &mut mock);
                    assert_eq!(response.status, 405, "{method} {path}");
                    assert_eq!(response.allow.as_deref(), Some(call.method()));
                    assert!(mock.calls.is_empty(), "{method} {path}");
                }
            }
        }
        for path in ["", "/", "/vm/", "/vm?", "/vm/pause/x", "//vm", "*", "/VM"] {
            assert_eq!(
                answer("GET", path, &mut Mock::default()).status,
                404,
                "{path}"
            );
        }
    }

    #[test]
    fn a_refusal_says_why() {
        for (refusal, status) in [(ControlError::Ending, 409), (ControlError::Busy, 503)] {
            let text = refusal.to_string();
            let mut mock = Mock {
                refusal: Some(refusal),
                ..Mock::default()
            };
            let response = answer("PUT", "/vm/pause", &mut mock);
            assert_eq!(response.status, status);
            let error: ApiError = serde_json::from_slice(&response.body.unwrap()).unwrap();
            assert_eq!(error.error, text);
        }
    }

    /// The OpenAPI file's paths, methods and codes, read by its indentation: two spaces a level.
    #[test]
    fn the_openapi_file_has_the_routes_and_no_others() {
        let text = include_str!("../../../docs/openapi.yaml");
        let mut described = Vec::new();
        let mut path = "";
        let paths = text.split_once("\npaths:\n").unwrap().1;
        for line in paths
            .lines()
            .take_while(|line| line.is_empty() || line.starts_with(' '))
        {
            let key = line.trim_end().trim_end_matches(':');
            if let Some(key) = key.strip_prefix("  /") {
                path = key;
            } else if let Some(method) =
                key.strip_prefix("    ").filter(|key| !key.starts_with(' '))
            {
                described.push((format!("/{path}"), method.to_uppercase()));
            }
        }
        let served = ROUTES.map(|(path, call)| (path.to_owned(), call.method().to_owned()));
        assert_eq!(described, served);
    }
}
