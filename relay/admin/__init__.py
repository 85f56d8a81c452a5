"""The operator's side: HTTP (/metrics /healthz /readyz) and the control socket."""
