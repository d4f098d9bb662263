{{- /* Combinations that the schema can't tell apart. Each message says what to do. */ -}}
{{- define "wirespan.check" -}}
{{- $agent := .Values.config.agent | default dict -}}
{{- $kubernetes := .Values.config.kubernetes | default dict -}}
{{- $capture := .Values.config.capture | default dict -}}
{{- $output := .Values.config.output | default dict -}}
{{- $otlp := .Values.config.otlp | default dict -}}
{{- $tls := .Values.otlp.tls -}}
{{- $headers := .Values.otlp.headers -}}

{{- $endpoint := $otlp.endpoint -}}
{{- $settings := or $otlp $headers.existingSecret $tls.existingSecret -}}
{{- range .Values.extraEnv -}}
  {{- if hasPrefix "OTEL_EXPORTER_OTLP_" .name }}{{ $settings = true }}{{ end -}}
  {{- if has .name (list "OTEL_EXPORTER_OTLP_ENDPOINT" "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") }}{{ $endpoint = .name }}{{ end -}}
  {{- if has .name (list "NODE_NAME" "WIRESPAN_CONFIG" "WIRESPAN_AGENT_HEALTH_LISTEN" "WIRESPAN_AGENT_DURATION" "WIRESPAN_AGENT_SHUTDOWN_TIMEOUT" "WIRESPAN_KUBERNETES_ENABLED" "WIRESPAN_KUBERNETES_NODE") -}}
    {{- fail (printf "extraEnv: %s is set by the chart, or what the chart sets depends on it; use `config` and `health` instead" .name) -}}
  {{- end -}}
  {{- if and $headers.existingSecret (has .name (list "OTEL_EXPORTER_OTLP_HEADERS" "OTEL_EXPORTER_OTLP_TRACES_HEADERS")) -}}
    {{- fail (printf "otlp.headers.existingSecret: extraEnv has %s already, and only one of them would be sent; keep one" .name) -}}
  {{- end -}}
{{- end -}}

{{- if and $settings (not $endpoint) -}}
  {{- fail "config.otlp.endpoint is missing: there are settings for an OTLP receiver, and no receiver. Set it, for instance to http://collector.observability:4317, or leave config.otlp, otlp and OTEL_EXPORTER_OTLP_* out" -}}
{{- end -}}
{{- if and $headers.existingSecret $otlp.headers -}}
  {{- fail "otlp.headers.existingSecret and config.otlp.headers are both given, and only the secret's would be sent; keep one" -}}
{{- end -}}
{{- range list "certificate" "client_certificate" "client_key" -}}
  {{- if hasKey $otlp . -}}
    {{- fail (printf "config.otlp.%s names a file, and the container has none of yours: put it into a secret, and name that in otlp.tls.existingSecret" .) -}}
  {{- end -}}
{{- end -}}
{{- if and $tls.existingSecret (not (or $tls.ca $tls.certificate)) -}}
  {{- fail "otlp.tls.existingSecret is given, but none of its keys: set otlp.tls.ca, or otlp.tls.certificate and otlp.tls.key, or both" -}}
{{- end -}}
{{- if and (not $tls.existingSecret) (or $tls.ca $tls.certificate $tls.key) -}}
  {{- fail "otlp.tls.existingSecret is missing: otlp.tls.ca, certificate and key are keys of that secret" -}}
{{- end -}}
{{- if and $tls.certificate (not $tls.key) -}}
  {{- fail "otlp.tls.key is missing: mutual TLS needs the private key of otlp.tls.certificate" -}}
{{- end -}}
{{- if and $tls.key (not $tls.certificate) -}}
  {{- fail "otlp.tls.certificate is missing: mutual TLS needs the certificate of otlp.tls.key" -}}
{{- end -}}

{{- if and (hasKey $kubernetes "enabled") (not $kubernetes.enabled) -}}
  {{- fail "config.kubernetes.enabled: false leaves nothing of what this chart is for; to choose pods, use config.kubernetes.default, namespaces and selector" -}}
{{- end -}}
{{- range list "node" "kubeconfig" -}}
  {{- if hasKey $kubernetes . -}}
    {{- fail (printf "config.kubernetes.%s would be the same on every node: each pod knows its node, and asks the API with its service account; leave it out" .) -}}
  {{- end -}}
{{- end -}}
{{- if $capture.pids -}}
  {{- fail "config.capture.pids: a process number means another process on each node; choose pods by config.kubernetes, or programs by config.capture.executables" -}}
{{- end -}}
{{- if hasKey $agent "health_listen" -}}
  {{- fail "config.agent.health_listen: probes, PodMonitor and NetworkPolicy must know the port; set health.port and health.host instead" -}}
{{- end -}}
{{- if hasKey $agent "duration" -}}
  {{- fail "config.agent.duration: a DaemonSet starts a run that has ended over and over; leave it out" -}}
{{- end -}}
{{- if and (hasKey $output "spans_file") (ne $output.spans_file "-") -}}
  {{- fail (printf "config.output.spans_file: %q can't be written, the root file system is read-only, and a file would end with the pod; use \"-\" for the pod's log, or config.otlp.endpoint" $output.spans_file) -}}
{{- end -}}
{{- if and $endpoint $output.verbose (not $output.spans_file) -}}
  {{- fail "config.output.verbose is about spans shown in the log, and there are none with config.otlp.endpoint; leave it out" -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
  {{- fail "serviceAccount.name is missing: with serviceAccount.create false it names the account to use; the namespace's `default` would share these rights with every pod" -}}
{{- end -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" -}}
  {{- if hasKey $.Values.podLabels $label -}}
    {{- fail (printf "podLabels: %s is set by the chart; use another label" $label) -}}
  {{- end -}}
{{- end -}}
{{- end }}
