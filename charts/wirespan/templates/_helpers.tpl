{{- define "wirespan.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- /* The selector of a DaemonSet can't be changed: nothing that values or a version may change belongs here. */ -}}
{{- define "wirespan.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "wirespan.labels" -}}
{{ include "wirespan.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "wirespan.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "wirespan.fullname" .) }}
{{- end }}

{{- define "wirespan.priorityClassName" -}}
{{- if .Values.priorityClass.name -}}
{{ .Values.priorityClass.name }}
{{- else if .Values.priorityClass.create -}}
{{ include "wirespan.fullname" . }}
{{- end -}}
{{- end }}

{{- define "wirespan.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "wirespan.tlsDirectory" -}}
/etc/wirespan-tls
{{- end }}

{{- /* The agent's configuration: what the chart sets, and over it what the user says. The two never meet in a key where
that would matter: see _checks.tpl. */ -}}
{{- define "wirespan.config" -}}
{{- $listen := printf "%s:%d" .Values.health.host (int .Values.health.port) -}}
{{- $set := dict "kubernetes" (dict "enabled" true) "agent" (dict "health_listen" $listen "log_format" "json") -}}
{{- $files := dict -}}
{{- $directory := include "wirespan.tlsDirectory" . -}}
{{- with .Values.otlp.tls.ca }}{{ $_ := set $files "certificate" (printf "%s/%s" $directory .) }}{{ end -}}
{{- with .Values.otlp.tls.certificate }}{{ $_ := set $files "client_certificate" (printf "%s/%s" $directory .) }}{{ end -}}
{{- with .Values.otlp.tls.key }}{{ $_ := set $files "client_key" (printf "%s/%s" $directory .) }}{{ end -}}
{{- if $files }}{{ $_ := set $set "otlp" $files }}{{ end -}}
{{- /* Not merge: it takes false and empty values for absent ones. */ -}}
{{- range $section, $keys := .Values.config -}}
  {{- $into := index $set $section | default dict -}}
  {{- range $key, $value := $keys }}{{ $_ := set $into $key $value }}{{ end -}}
  {{- $_ := set $set $section $into -}}
{{- end -}}
{{ toYaml $set }}
{{- end }}

{{- /* A stop finishes within agent.shutdown_timeout; the rest is for ending the process. */ -}}
{{- define "wirespan.gracePeriodSeconds" -}}
{{- $agent := .Values.config.agent | default dict -}}
{{ add 5 (ceil (default 10 $agent.shutdown_timeout)) }}
{{- end }}
