{{- /* What values.schema.json cannot say: values that do not fit each other. Each in one sentence that names the fix. */ -}}
{{- define "dynrefer.validate" -}}
{{- $values := .Values -}}
{{- $several := or $values.autoscaling.enabled (gt (int $values.replicas) 1) -}}
{{- $volume := or $values.model.claim $values.model.image -}}
{{- range $name, $instead := .Files.Get "files/refused-settings.yaml" | fromYaml -}}
{{- if hasKey $values.settings $name -}}
{{- fail (printf "settings.%s is not set here: %s." $name $instead) -}}
{{- end -}}
{{- end -}}
{{- range $name, $_ := $values.secretSettings -}}
{{- if hasKey $values.settings $name -}}
{{- fail (printf "settings.%s and secretSettings.%s are both set: give it once." $name $name) -}}
{{- end -}}
{{- end -}}
{{- if and $values.model.claim $values.model.image -}}
{{- fail "model.claim and model.image are both set: name one volume for the models." -}}
{{- end -}}
{{- if and (ne $values.model.name "embedded") (not $volume) -}}
{{- fail (printf "model.name is %s, which is in no volume: set model.claim or model.image." $values.model.name) -}}
{{- end -}}
{{- if and $values.model.image (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) -}}
{{- fail "model.image needs Kubernetes 1.33 or newer, with its feature gate ImageVolume before 1.35: set model.claim." -}}
{{- end -}}
{{- if and $values.apiKeys.existingSecret $values.apiKeys.lines -}}
{{- fail "apiKeys.existingSecret and apiKeys.lines are both set: give the keys once." -}}
{{- end -}}
{{- if and $values.adminKeys.existingSecret $several -}}
{{- fail "adminKeys.existingSecret needs replicas 1 and autoscaling.enabled false: a switch of models reaches one pod only. Set model.name and upgrade the release instead." -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas (%d) is above autoscaling.maxReplicas (%d)." (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- $queue := get $values.settings "max_queue_regions" | default 256 | int -}}
{{- if and $values.autoscaling.enabled (ge (int $values.autoscaling.queueRegions) $queue) -}}
{{- fail (printf "autoscaling.queueRegions (%d) must be below settings.max_queue_regions (%d), which the queue never exceeds." (int $values.autoscaling.queueRegions) $queue) -}}
{{- end -}}
{{- if and (eq (toString $values.updateStrategy.maxSurge) "0") (eq (toString $values.updateStrategy.maxUnavailable) "0") -}}
{{- fail "updateStrategy.maxSurge and updateStrategy.maxUnavailable are both 0: no pod could be replaced." -}}
{{- end -}}
{{- if eq (int $values.metrics.port) 8000 -}}
{{- fail "metrics.port is 8000, on which the service listens: choose another one." -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.host) -}}
{{- fail "ingress.host is missing: name the host that ingress.enabled is for." -}}
{{- end -}}
{{- if $values.networkPolicy.enabled -}}
{{- range $name := list "otlp_endpoint" "label_studio_url" "shared_cache" -}}
{{- $url := get $values.settings $name | default "" -}}
{{- if and (or (hasKey $values.secretSettings $name) $url) (not (hasPrefix "unix:" $url)) (not $values.networkPolicy.egress) -}}
{{- fail (printf "settings.%s cannot be reached: let it through with networkPolicy.egress." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
