{{- define "citychain.selector" -}}
app.kubernetes.io/name: citychain
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "citychain.labels" -}}
{{ include "citychain.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
