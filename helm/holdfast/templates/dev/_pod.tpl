{{/* What pods have in common that dev.enabled brings, of (dict "root" $ "user" UID). */}}
{{- define "holdfast.dev.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ .user }}
  runAsGroup: {{ .user }}
  fsGroup: {{ .user }}
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.defaults.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.defaults.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "holdfast.dev.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Its certificate, as a file that its user may read and nobody else, which Postgres insists on. */}}
{{- define "holdfast.dev.mount" -}}
{{- if not .root.Values.insecure -}}
- name: tls
  mountPath: {{ .path }}
  readOnly: true
{{- end -}}
{{- end -}}

{{- define "holdfast.dev.volume" -}}
{{- if not .Values.insecure -}}
- name: tls
  secret:
    secretName: {{ .Values.dev.tls.existingSecret }}
    defaultMode: 0440
{{- end -}}
{{- end -}}
