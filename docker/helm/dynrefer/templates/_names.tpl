{{- /* Name of all objects of a release. */ -}}
{{- define "dynrefer.name" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels by which pods of the service are found; they never change in a release's life. */ -}}
{{- define "dynrefer.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end -}}

{{- define "dynrefer.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "dynrefer.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "dynrefer.name" .) -}}
{{- end -}}

{{- define "dynrefer.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- $variant := ternary "-cuda" "" .Values.gpu.enabled -}}
{{- printf "%s:%s" $image.repository ($image.tag | default (print .Chart.AppVersion $variant)) -}}
{{- end -}}
{{- end -}}

{{- /* Secret with the file of API keys, empty where there is none. */ -}}
{{- define "dynrefer.apiKeysSecret" -}}
{{- if .Values.apiKeys.existingSecret -}}
{{- .Values.apiKeys.existingSecret -}}
{{- else if .Values.apiKeys.lines -}}
{{- printf "%s-api-keys" (include "dynrefer.name" .) -}}
{{- end -}}
{{- end -}}
