{{- /* Values that contradict each other; what a single value may be is in values.schema.json. */ -}}
{{- define "pharia-kernel.validate" -}}
{{- include "pharia-kernel.validate.config" . -}}
{{- if .Values.documentIndex.enabled -}}
  {{- if .Values.autoscaling.enabled -}}
    {{- fail "documentIndex.enabled and autoscaling.enabled exclude each other: the documents of the built-in index belong to one kernel. Set config's document-index-url to an index elsewhere, or switch autoscaling off." -}}
  {{- end -}}
  {{- if gt (int .Values.replicas) 1 -}}
    {{- fail (printf "documentIndex.enabled needs replicas: 1, not %d: the documents of the built-in index belong to one kernel." (int .Values.replicas)) -}}
  {{- end -}}
{{- else if .Values.qdrant.enabled -}}
  {{- fail "qdrant.enabled needs documentIndex.enabled: only the built-in document index uses Qdrant." -}}
{{- end -}}
{{- if and (eq .Values.artifactCache.type "existingClaim") (not .Values.artifactCache.existingClaim) -}}
  {{- fail "artifactCache.type is existingClaim, but artifactCache.existingClaim names none." -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
  {{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
    {{- fail "autoscaling.minReplicas is greater than autoscaling.maxReplicas." -}}
  {{- end -}}
  {{- if not (or .Values.autoscaling.cpu .Values.autoscaling.activeRuns .Values.autoscaling.queuedRuns) -}}
    {{- fail "autoscaling.enabled needs at least one of autoscaling.cpu, autoscaling.activeRuns and autoscaling.queuedRuns." -}}
  {{- end -}}
  {{- if and .Values.autoscaling.cpu (not (dig "requests" "cpu" "" .Values.resources)) -}}
    {{- fail "autoscaling.cpu is a share of resources.requests.cpu, which is not set." -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
  {{- fail "ingress.enabled needs ingress.hosts." -}}
{{- end -}}
{{- end -}}

{{- define "pharia-kernel.validate.config" -}}
{{- $config := fromToml .Values.config -}}
{{- if $config.Error -}}
  {{- fail (printf "config is not TOML: %s" $config.Error) -}}
{{- end -}}
{{- range $key, $value := dict "kernel-address" "service.port" "metrics-address" "service.metricsPort" "drain-timeout" "drainTimeoutSeconds" "engines" "engines" "wasmtime-cache-dir" "artifactCache" -}}
  {{- if hasKey $config $key -}}
    {{- fail (printf "config has %s, which the chart sets: use the value %s instead." $key $value) -}}
  {{- end -}}
{{- end -}}
{{- include "pharia-kernel.validate.secrets" (list $config (list "token" "qdrant-api-key" "registry-password" "config-access-token") "config") -}}
{{- end -}}

{{- /* Secrets anywhere in the tables and lists: (value, names of secret keys, where it is). */ -}}
{{- define "pharia-kernel.validate.secrets" -}}
{{- $value := index . 0 -}}{{- $secrets := index . 1 -}}{{- $where := index . 2 -}}
{{- if kindIs "map" $value -}}
  {{- range $key, $inner := $value -}}
    {{- if and (has $key $secrets) (kindIs "string" $inner) -}}
      {{- fail (printf "%s.%s is a secret, and a ConfigMap is none: give it as a variable in `secrets` or `existingSecret`, or as %s-file." $where $key $key) -}}
    {{- end -}}
    {{- include "pharia-kernel.validate.secrets" (list $inner $secrets (printf "%s.%s" $where $key)) -}}
  {{- end -}}
{{- else if kindIs "slice" $value -}}
  {{- range $index, $inner := $value -}}
    {{- include "pharia-kernel.validate.secrets" (list $inner $secrets (printf "%s[%d]" $where $index)) -}}
  {{- end -}}
{{- end -}}
{{- end -}}
