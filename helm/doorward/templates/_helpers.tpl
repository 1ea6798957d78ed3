{{/* Objects have fixed names: one mesh to a cluster, and people, docs and sidecars know where it is. */}}

{{- define "doorward.selector" -}}
app.kubernetes.io/name: doorward
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: control-plane
{{- end }}

{{- define "doorward.commonLabels" -}}
app.kubernetes.io/name: doorward
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: doorward
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end }}

{{- define "doorward.labels" -}}
{{ include "doorward.commonLabels" . }}
app.kubernetes.io/component: control-plane
{{- end }}

{{/* An image's full name: `include "doorward.image" (list . .Values.image.sidecar)`. */}}
{{- define "doorward.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}{{ $image.name }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The host part of HOST:PORT at which every address of the pod is served. */}}
{{- define "doorward.everyAddress" -}}
{{ eq .Values.ipFamily "IPv6" | ternary "[::]" "0.0.0.0" }}
{{- end }}

{{- define "doorward.claimName" -}}
{{ .Values.persistence.existingClaim | default "doorward" }}
{{- end }}

{{/* What Pod Security "restricted" asks of a pod, and of a container. */}}
{{- define "doorward.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "doorward.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "doorward.checkLabels" -}}
{{ include "doorward.commonLabels" . }}
app.kubernetes.io/component: uninstall-check
{{- end }}

{{/* Where its pods may run, and how their images are pulled. */}}
{{- define "doorward.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
