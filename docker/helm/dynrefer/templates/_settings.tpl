{{- /* Settings that the chart chooses. Every one of them is refused in `settings` by values.schema.json. */ -}}

{{- /* A value as the text of an environment variable. Numbers arrive as floats, which would be printed as 5.36e+08. */ -}}
{{- define "dynrefer.text" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- printf "%.0f" . -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{- define "dynrefer.resources" -}}
{{- if .Values.resources -}}
{{- toYaml .Values.resources -}}
{{- else if .Values.gpu.enabled -}}
requests: {cpu: "8", memory: 16Gi}
limits: {cpu: "8", memory: 16Gi}
{{- else -}}
requests: {cpu: "1", memory: 2Gi}
limits: {cpu: "2", memory: 4Gi}
{{- end -}}
{{- end -}}

{{- /* Whole CPUs that a pod may take; empty where there is no limit. */ -}}
{{- define "dynrefer.cpus" -}}
{{- $resources := include "dynrefer.resources" . | fromYaml -}}
{{- $cpu := dig "limits" "cpu" "" $resources | toString -}}
{{- if hasSuffix "m" $cpu -}}
{{- max 1 (div (trimSuffix "m" $cpu | int) 1000) -}}
{{- else if $cpu -}}
{{- max 1 (floor (float64 $cpu) | int) -}}
{{- end -}}
{{- end -}}

{{- /* Seconds for admitted requests: as long as the longest may take, so that an upgrade loses none. */ -}}
{{- define "dynrefer.grace" -}}
{{- $settings := .Values.settings -}}
{{- if hasKey $settings "shutdown_grace_s" -}}
{{- int64 $settings.shutdown_grace_s -}}
{{- else -}}
{{- ceil (float64 (get $settings "request_timeout_s" | default 60)) | int64 -}}
{{- end -}}
{{- end -}}

{{- /* Variables of the container: the chart's, then the user's by their names. */ -}}
{{- define "dynrefer.environment" -}}
{{- $chosen := dict "port" 8000 "metrics_host" (get .Values.settings "host" | default "0.0.0.0") "metrics_port" .Values.metrics.port -}}
{{- $_ := set $chosen "device" (ternary "cuda" "cpu" .Values.gpu.enabled) -}}
{{- $_ := set $chosen "model" (ternary "embedded" (print "/models/" .Values.model.name) (eq .Values.model.name "embedded")) -}}
{{- $_ := set $chosen "shutdown_grace_s" (include "dynrefer.grace" . | int64) -}}
{{- if include "dynrefer.apiKeysSecret" . -}}
{{- $_ := set $chosen "api_keys_file" "/etc/dynrefer/api/keys" -}}
{{- end -}}
{{- if .Values.adminKeys.existingSecret -}}
{{- $_ := set $chosen "admin_keys_file" "/etc/dynrefer/admin/keys" -}}
{{- if or .Values.model.claim .Values.model.image -}}
{{- $_ := set $chosen "models_dir" "/models" -}}
{{- end -}}
{{- end -}}
{{- /* The service sees the node's cores, not the pod's part of them. */ -}}
{{- $cpus := include "dynrefer.cpus" . -}}
{{- if and .Values.gpu.enabled $cpus -}}
{{- $_ := set $chosen "worker_processes" (max 1 (sub (int $cpus) 2)) -}}
{{- end -}}
{{- range $name, $value := merge (omit .Values.settings "shutdown_grace_s") $chosen }}
{{- if not (kindIs "invalid" $value) }}
- name: DYNREFER_{{ upper $name }}
  value: {{ include "dynrefer.text" $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $source := .Values.secretSettings }}
- name: DYNREFER_{{ upper $name }}
  valueFrom:
    secretKeyRef: {{ toJson $source }}
{{- end }}
{{- if $cpus }}
- name: OMP_NUM_THREADS
  value: {{ $cpus | quote }}
{{- end }}
{{- end -}}
